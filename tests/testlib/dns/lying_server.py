"""A name server of the outside that says of each name which other name it stands for, and what address that one has."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address

from host.namespace import run_in
from tests.testlib.dns.client import HEADER, INTERNET, PORT, Kind
from tests.testlib.node import Node

OUTER = "evil.example"  # `x.y.evil.example` stands for `x.y`
SAID = {Kind.A: IPv4Address("192.0.2.6").packed, Kind.AAAA: b"\x20\x01\x0d\xb8" + bytes(11) + b"\x06"}
SECONDS = 3600
ANSWER = 0x8180  # with recursion, without an error


@contextmanager
def lying_dns(place: Node, *, at: IPv4Address) -> Iterator[None]:
    """One that listens at an address of `place`."""
    with run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind((str(at), PORT))
        thread = threading.Thread(target=_serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            with suppress(OSError):  # what is not connected says so, and is woken all the same
                server.shutdown(socket.SHUT_RDWR)
            thread.join(20)


def _serve(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            message, caller = server.recvfrom(4096)
            if not message:
                return
            server.sendto(_lie(message), caller)


def _lie(message: bytes) -> bytes:
    """The name in front of OUTER, and an address of it."""
    number, *_ = HEADER.unpack_from(message)
    end = message.index(b"\0", HEADER.size) + 1
    name, (kind,) = message[HEADER.size : end], struct.unpack_from("!H", message, end)
    other = name.removesuffix(_encoded(OUTER)) + b"\0"
    records = _record(name, Kind.CNAME, other)
    said = SAID.get(kind)
    if said is not None:
        records += _record(other, kind, said)
    return HEADER.pack(number, ANSWER, 1, 1 + (said is not None), 0, 0) + message[HEADER.size : end + 4] + records


def _record(name: bytes, kind: int, value: bytes) -> bytes:
    return name + struct.pack("!HHIH", kind, INTERNET, SECONDS, len(value)) + value


def _encoded(name: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"
