"""Questions and answers of DNS, byte by byte, over UDP and TCP: what a test asks, whatever the libraries of this machine do."""

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

from host.namespace import run_in
from tests.testlib.node import Node
from tests.testlib.patience import PATIENCE

RESOLVER = IPv4Address("169.254.0.2")
PORT = 53
HEADER = struct.Struct("!6H")
INTERNET, POINTER, EDNS = 1, 0xC000, 41
RESPONSE, TRUNCATED, RECURSION_WANTED = 0x8000, 0x0200, 0x0100
AGAIN = 2.0  # seconds, after which a question is asked again


class Kind(IntEnum):
    """Of records."""

    A = 1
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    HTTPS = 65
    ANY = 255


class Code(IntEnum):
    """Of answers."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True)
class Record:
    """One of an answer; an address or a name as text, else its bytes in hexadecimal digits."""

    name: str
    kind: int
    seconds: int
    value: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`size` in bytes; `question` as it was sent back."""

    code: Code
    records: tuple[Record, ...]
    question: str
    truncated: bool
    size: int

    @property
    def addresses(self) -> list[str]:
        """Of the records of kind A, in their order."""
        return [each.value for each in self.records if each.kind == Kind.A]


def question(name: str, kind: int = Kind.A, *, edns: int = 0, number: int = 4711) -> bytes:
    """A message with one question; with `edns` the sender takes answers of so many bytes."""
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split(".") if each) + b"\0"
    more = b"\0" + struct.pack("!HHIH", EDNS, edns, 0, 0) if edns else b""
    return HEADER.pack(number, RECURSION_WANTED, 1, 0, 0, bool(edns)) + labels + struct.pack("!HH", kind, INTERNET) + more


def answer(message: bytes) -> Answer:
    """What a message says. Raises ValueError where it is none that answers."""
    _, flags, questions, answers, _, _ = HEADER.unpack_from(message)
    if not flags & RESPONSE:
        raise ValueError("a question")
    place, asked = HEADER.size, ""
    for _ in range(questions):
        asked, place = _name(message, place)
        place += 4
    records: list[Record] = []
    for _ in range(answers):
        name, place = _name(message, place)
        kind, _, seconds, length = struct.unpack_from("!HHIH", message, place)
        place += 10
        records.append(Record(name, kind, seconds, _value(message, kind, place, length)))
        place += length
    return Answer(Code(flags & 15), tuple(records), asked, bool(flags & TRUNCATED), len(message))


def _value(message: bytes, kind: int, place: int, length: int) -> str:
    content = message[place : place + length]
    if kind == Kind.A:
        return str(IPv4Address(content))
    return _name(message, place)[0] if kind in (Kind.PTR, Kind.CNAME) else content.hex()


def _name(message: bytes, place: int) -> tuple[str, int]:
    labels: list[str] = []
    while (length := message[place]) != 0:
        if length >= POINTER >> 8:
            rest, _ = _name(message, struct.unpack_from("!H", message, place)[0] & ~POINTER)
            return ".".join([*labels, rest]), place + 2
        labels.append(message[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(labels), place + 1


def ask(node: Node, name: str, kind: int = Kind.A, *, edns: int = 0, at: IPv4Address = RESOLVER) -> Answer:
    """Over UDP, again and again until an answer comes, as resolvers do. Raises OSError: TimeoutError where none comes."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return ask_once(node, name, kind, edns=edns, at=at, seconds=AGAIN)
        except TimeoutError:
            if time.monotonic() > until:
                raise


def ask_once(
    node: Node, name: str, kind: int = Kind.A, *, edns: int = 0, at: IPv4Address = RESOLVER, seconds: float = 1.0
) -> Answer:
    """One datagram over UDP, which may get lost. Raises OSError: TimeoutError where nothing comes."""
    return answer(exchange(node, question(name, kind, edns=edns), at=at, seconds=seconds))


def exchange(node: Node, message: bytes, *, at: IPv4Address = RESOLVER, seconds: float = 5.0) -> bytes:
    """Send any bytes over UDP; what comes back. Raises OSError."""
    with _opened(node, socket.SOCK_DGRAM) as sender:
        sender.settimeout(seconds)
        sender.connect((str(at), PORT))
        sender.send(message)
        return sender.recv(65535)


def ask_over_tcp(node: Node, name: str, kind: int = Kind.A, *, at: IPv4Address = RESOLVER, seconds: float = PATIENCE) -> Answer:
    """Over a connection of its own. Raises OSError."""
    with _opened(node, socket.SOCK_STREAM) as caller:
        caller.settimeout(seconds)
        caller.connect((str(at), PORT))
        return answer(exchange_over(caller, question(name, kind)))


def exchange_over(connection: socket.socket, message: bytes) -> bytes:
    """One message over a connection, and what comes back. Raises OSError."""
    connection.sendall(struct.pack("!H", len(message)) + message)
    (length,) = struct.unpack("!H", _whole(connection.recv, 2))
    return _whole(connection.recv, length)


def _whole(receive: Callable[[int], bytes], length: int) -> bytes:
    found = b""
    while len(found) < length:
        part = receive(length - len(found))
        if not part:
            raise ConnectionResetError("it has closed")
        found += part
    return found


def _opened(node: Node, kind: socket.SocketKind) -> socket.socket:
    return run_in(node.pin, lambda: socket.socket(socket.AF_INET, kind))
