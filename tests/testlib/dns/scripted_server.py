"""A name server of the outside whose answers a test writes as it goes, over UDP and TCP; it notes what it is asked."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from host.namespace import run_in
from tests.testlib.dns.client import PORT
from tests.testlib.node import Node


@dataclass
class ScriptedDns:
    """`records` by name: `A 192.0.2.1`, `CNAME other.example.com`. What has none is unknown. `before` sees a question first,
    with the socket that it came to and its sender.
    """

    records: dict[str, Sequence[str]] = field(default_factory=dict)
    seconds: int = 60
    asked: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    silent: bool = False
    before: Callable[[dns.message.Message, socket.socket, tuple[str, int]], None] = lambda *_: None

    def answer(self, wire: bytes, *, datagram: bool) -> bytes:
        """As a resolver that follows aliases itself."""
        question = dns.message.from_wire(wire)
        name = question.question[0].name
        self.asked.append(name.to_text(omit_final_dot=True))
        self.options += [each.to_text() for each in question.options]
        made = dns.message.make_response(question, recursion_available=True)
        owner = name
        for _ in range(20):
            lines = self.records.get(owner.to_text(omit_final_dot=True).lower())
            if lines is None:
                made.set_rcode(dns.rcode.NXDOMAIN if owner == name else dns.rcode.NOERROR)
                break
            found = [line.split() for line in lines]
            kind = found[0][0]
            values = [value if kind == "A" else f"{value}." for _, value in found]
            made.answer.append(dns.rrset.from_text_list(owner, self.seconds, "IN", kind, values))
            if kind == "A":
                break
            owner = dns.name.from_text(values[0])
        if question.question[0].rdtype != dns.rdatatype.A:
            made.answer.clear()
        return made.to_wire(max_size=1232 if datagram else 65_535, prefer_truncation=True)


@contextmanager
def scripted_dns(place: Node, *, at: IPv4Address) -> Iterator[ScriptedDns]:
    """One that listens at an address of `place`."""
    made = ScriptedDns()
    with (
        run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as datagrams,
        run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as connections,
    ):
        datagrams.bind((str(at), PORT))
        connections.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connections.bind((str(at), PORT))
        connections.listen(64)
        threads = [
            threading.Thread(target=serve, args=(made, each), daemon=True)
            for serve, each in ((_serve_datagrams, datagrams), (_serve_connections, connections))
        ]
        for thread in threads:
            thread.start()
        try:
            yield made
        finally:
            for each in (datagrams, connections):
                with suppress(OSError):  # what is not connected says so, and is woken all the same
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(20)


def _serve_datagrams(script: ScriptedDns, server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            wire, caller = server.recvfrom(4096)
            if not wire:
                return
            with suppress(dns.exception.DNSException):
                script.before(dns.message.from_wire(wire), server, caller)
            if not script.silent:
                server.sendto(script.answer(wire, datagram=True), caller)


def _serve_connections(script: ScriptedDns, server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError, struct.error):
                connection.settimeout(5.0)
                (length,) = struct.unpack("!H", connection.recv(2))
                found = script.answer(connection.recv(length), datagram=False)
                connection.sendall(struct.pack("!H", len(found)) + found)
