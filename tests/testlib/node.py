"""A place of a test's network, and calls from there: a container, the cell itself, the outside.

Calls are made by the test's own process, in a thread inside the namespace, so that a test holds both ends of a connection.
"""

import http.client
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeAlias

from host.namespace import run_in

PATIENCE = 5.0  # seconds after which a test takes it that nothing comes
RESEND_SECONDS = 0.2
TOTAL_RETRANSMISSIONS = 100  # an offset in struct tcp_info


class Outcome(Enum):
    """What came of a call."""

    CONNECTED = "connected"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    RESET = "reset"
    UNREACHABLE = "unreachable"


ECHO = 8  # what asks for one, of the kinds of ICMP
Connected, Refused, TimedOut, Reset, Unreachable = Outcome
Target: TypeAlias = "Node | IPv4Address | str"
ERRORS: Mapping[type[OSError], Outcome] = {
    ConnectionRefusedError: Refused,
    ConnectionResetError: Reset,
    TimeoutError: TimedOut,
    OSError: Unreachable,
}


def outcome_of(call: Callable[[], object]) -> Outcome:
    """Make a call; its outcome."""
    try:
        call()
    except OSError as error:
        return next(found for kind, found in ERRORS.items() if isinstance(error, kind))
    return Connected


def address_of(target: Target) -> str:
    return str(target.address) if isinstance(target, Node) else str(target)


class Node:
    """A network namespace, pinned at `pin`, with the address by which others know it, and perhaps one that it calls from."""

    def __init__(self, pin: Path, *, address: IPv4Address, source: str = "") -> None:
        self.pin, self.address, self.source = pin, address, source
        self._open: list[socket.socket] = []

    def connect(self, target: Target, port: int, *, source_port: int = 0) -> Outcome:
        """Open a TCP connection and close it again."""
        return outcome_of(lambda: self.dial(target, port, source_port=source_port).close())

    def udp(self, target: Target, port: int, *, seconds: float = PATIENCE) -> Outcome:
        """Send a datagram, again and again, until it comes back or is refused.

        Repeated because the kernel limits ICMP errors to one a second after a few: a single datagram may be refused silently.
        """
        with self.datagrams() as sender:
            sender.settimeout(RESEND_SECONDS)
            sender.connect((address_of(target), port))
            until = time.monotonic() + seconds
            found = TimedOut
            while found is TimedOut and time.monotonic() < until:
                found = outcome_of(lambda: (sender.send(b"?"), sender.recv(16)))
            return found

    def ping(self, target: Target, *, number: int = 0, kind: int = ECHO, seconds: float = PATIENCE) -> Outcome:
        """Ask for an echo, again and again as with `udp`, until the answer comes or it is refused.

        `number` is that of the flow; `kind` may be another request of ICMP, whose answer has the next number.
        """
        with self.raw_icmp() as sender:
            sender.settimeout(RESEND_SECONDS)
            sender.connect((address_of(target), 0))
            until = time.monotonic() + seconds
            found = TimedOut
            while found is TimedOut and time.monotonic() < until:
                found = outcome_of(lambda: (sender.send(echo(number, kind=kind)), self._answer(sender, kind, number)))
            return found

    @staticmethod
    def _answer(sender: socket.socket, kind: int, number: int) -> None:
        while True:  # the socket hears all of ICMP that the other end sends
            message = sender.recv(1500)[20:]  # behind the header of IP
            if (message[0], struct.unpack_from("!H", message, 4)[0]) == (0 if kind == ECHO else kind + 1, number):
                return

    def raw_icmp(self) -> socket.socket:
        """A socket for messages of ICMP, which root alone can have."""
        return self.keep(run_in(self.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)))

    def get(self, target: Target, port: int, path: str = "/") -> str:
        """The page at http://TARGET:PORT/PATH. Raises OSError."""
        with self.dial(target, port) as connection:
            return page(connection, path)

    def dial(self, target: Target, port: int, *, source_port: int = 0) -> socket.socket:
        """A live TCP connection, closed when the test ends."""
        address = (address_of(target), port)
        make = lambda: socket.create_connection(address, timeout=PATIENCE, source_address=(self.source, source_port))  # noqa: E731
        return self.keep(run_in(self.pin, make))

    def listen(self, port: int, *, address: str = "") -> socket.socket:
        """A TCP server socket of the test's own process, for a test that wants the server's end in its hands."""
        return self.keep(run_in(self.pin, lambda: socket.create_server((address, port))))

    def datagrams(self, port: int = 0) -> socket.socket:
        """A UDP socket inside."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((self.source, port))
            return made

        return self.keep(run_in(self.pin, make))

    def run(self, *argv: str, code: int | None = 0) -> str:
        """Run a tool inside; what it prints on both streams. `code` is the exit code that is expected, None for any."""
        words = ["nsenter", f"--net={self.pin}", "--", *argv]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
        text = done.stdout.decode(errors="replace")
        assert code is None or done.returncode == code, f"{' '.join(argv)} ended with {done.returncode}: {text}"
        return text

    def close(self) -> None:
        """Close the test's own sockets inside."""
        while self._open:
            self._open.pop().close()

    def keep(self, made: socket.socket) -> socket.socket:
        made.settimeout(PATIENCE)
        self._open.append(made)
        return made


def echo(number: int, *, kind: int = ECHO) -> bytes:
    """A request of ICMP, of 20 bytes as all kinds take them, with its checksum."""
    message = struct.pack("!BBHHH12x", kind, 0, 0, number, 1)
    total = sum(struct.unpack("!10H", message))
    checksum = 0xFFFF & ~((total & 0xFFFF) + (total >> 16))
    return message[:2] + struct.pack("!H", checksum) + message[4:]


def page(connection: socket.socket, path: str) -> str:
    connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.read().decode()


def pair(client: Node, server: Node, port: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection: the client's and the server's. The listener is gone when this returns."""
    with server.listen(port) as listener:
        asking = client.dial(server, port)
        return asking, server.keep(listener.accept()[0])


def udp_pair(client: Node, server: Node, port: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a UDP flow that both have used."""
    asking, answering = client.datagrams(), server.datagrams(port)
    asking.connect((str(server.address), port))
    asking.send(b"!")
    _, peer = answering.recvfrom(1)
    answering.connect(peer)
    answering.send(b"!")
    assert asking.recv(1) == b"!"
    return asking, answering


def connect_at_once(client: Node, target: Target, port: int, *, source_port: int = 0) -> Outcome:
    """As `connect`, decided by the first SYN: what only a repeated one has brought about counts as TimedOut."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.bind((client.source, source_port))
        return made

    with run_in(client.pin, make) as made:
        made.settimeout(PATIENCE)
        found = outcome_of(lambda: made.connect((address_of(target), port)))
        return TimedOut if retransmissions(made) else found


def retransmissions(connection: socket.socket) -> int:
    """How many segments TCP had to send again, SYNs among them."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("=I", info, TOTAL_RETRANSMISSIONS)[0])


def one_datagram(client: Node, target: Target, port: int, *, source_port: int = 0) -> Outcome:
    """What comes of a single datagram, sent once."""
    with client.datagrams(source_port) as sender:
        sender.connect((address_of(target), port))
        return outcome_of(lambda: (sender.send(b"?"), sender.recv(16)))


def reachable_ports(client: Node, server: Target, ports: Iterable[int], *, over: str = "tcp") -> set[int]:
    """The ports that `client` reaches at once; all others refuse it at once."""
    found = {port: connect_at_once(client, server, port) if over == "tcp" else client.udp(server, port) for port in ports}
    assert set(found.values()) <= {Connected, Refused}, found
    return {port for port, outcome in found.items() if outcome is Connected}
