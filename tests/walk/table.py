"""The truth table: what comes of a connection from each container to each other one on each port, all tried at once.

The test's own process holds both ends of every call. So it also sees the caller: what arrives must be a call that was
made, from the address that made it, at the container that it was meant for.
"""

import itertools
import select
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from tests.walk.calls import Call, Outcome
from tests.walk.place import RESET, Place, Way

SILENCE = 0.15  # seconds after which nothing is taken to come, where nothing need come
PATIENCE = 10.0  # seconds for what must come: a SYN may be lost after a partition, and is sent again after 1, 3 and 7
RESEND = 0.5  # a datagram may be lost then, too
Peer: TypeAlias = tuple[str, int]
_tables = itertools.count()


class Signature(NamedTuple):
    """What is unique of a call, as its server sees it."""

    protocol: str
    caller: Peer
    to: str
    port: int

    def __str__(self) -> str:
        return f"{self.to} was called on {self.protocol}/{self.port} by {self.caller[0]}:{self.caller[1]}"


def between(client: Place, server: Place, port: int) -> Way:
    """From one container to another, by its own address."""
    there = str(server.address)
    return Way(client, (there, port), server, arrives=there, seen=str(client.address))


@dataclass
class Table:
    """What came of some calls. `strange` says what arrived somewhere without being one of them."""

    found: dict[Call, Outcome] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)


class Trying:
    """One table."""

    def __init__(self, stack: ExitStack, places: Mapping[str, Place], calls: Mapping[Call, Outcome | None]) -> None:
        self.stack, self.places, self.expected = stack, places, calls
        self.table = Table()
        self.token = str(next(_tables)).encode()
        self._began = time.monotonic()
        self.pending: dict[int, tuple[Call, socket.socket]] = {}
        self._callers: dict[Signature, Call] = {}
        self._servers = {
            server.fileno(): (name, server, served)
            for name, place in places.items()
            for server, served in place.servers.items()
        }
        self._unmet: set[Call] = set()  # connected, but the server has not seen them
        self.poll = select.poll()

    def run(self) -> Table:
        for number in self._servers:
            self.poll.register(number, select.POLLIN)
        for name, place in self.places.items():
            mine = {call: between(place, self.places[call.to], call.port) for call in self.expected if call.source == name}
            for call, made in place.begin(mine).items():
                self.stack.callback(made.close)
                self.pending[made.fileno()] = call, made
                self._callers[Signature(call.protocol, made.getsockname(), call.to, call.port)] = call
                self.poll.register(made.fileno(), select.POLLOUT if call.protocol == "tcp" else select.POLLIN)
        sent = 0.0
        self._began = time.monotonic()
        while self._waits():
            if time.monotonic() > sent + RESEND:
                sent = time.monotonic()
                self._send()
            for number, _ in self.poll.poll(10):
                self._serve(number) if number in self._servers else self.go_on(number)
        self.table.found.update((call, Outcome.SILENT) for call, _ in self.pending.values())
        self.table.strange += (f"{call} was not accepted by its target" for call in sorted(self._unmet))
        return self.table

    def _send(self) -> None:
        for call, made in self.pending.values():
            if call.protocol == "udp":
                with suppress(OSError):  # of an earlier one; poll reports it, too
                    made.send(self.token)

    def _waits(self) -> bool:
        waited = time.monotonic() - self._began
        if waited > PATIENCE:
            return False
        needed = self._unmet or any(self.expected[call] is not Outcome.SILENT for call, _ in self.pending.values())
        return bool(needed) or (bool(self.pending) and waited < SILENCE)

    def go_on(self, number: int) -> None:
        """Something has come of the call with this descriptor."""
        call, made = self.pending[number]
        self.end(number, outcome_of(made, call))
        if self.table.found[call] is Outcome.ALLOWED and call.is_to_app:
            self._unmet ^= {call}

    def end(self, number: int, outcome: Outcome) -> None:
        """This came of it."""
        call, _ = self.pending.pop(number)
        self.poll.unregister(number)
        self.table.found[call] = outcome

    def _serve(self, number: int) -> None:
        name, server, (protocol, port) = self._servers[number]
        for made, peer in self._arrivals(server, protocol):
            self.arrived(made, Signature(protocol, peer, name, port))

    def arrived(self, made: socket.socket | None, signature: Signature) -> None:
        """A datagram, or the connection `made`, has come to a server."""
        call = self._callers.get(signature)
        if call is None:
            self.table.strange.append(f"{signature}, which never called")
        elif made is not None:
            self._unmet ^= {call}

    def _arrivals(self, server: socket.socket, protocol: str) -> Iterator[tuple[socket.socket | None, Peer]]:
        """Connections with their callers; a datagram is answered, unless it comes late, from a table before this one."""
        with suppress(BlockingIOError):
            while True:
                if protocol == "tcp":
                    made, peer = server.accept()
                    made.setblocking(False)
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    self.stack.callback(made.close)
                    yield made, peer
                else:
                    got, peer = server.recvfrom(16)
                    if got != self.token:
                        continue
                    server.sendto(got, peer)
                    yield None, peer


def outcome_of(made: socket.socket, call: Call) -> Outcome:
    """Of a connection, or of the answer to a datagram, on whose socket something has happened."""
    try:
        if call.protocol == "udp":
            made.recv(16)
        else:
            error = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "")
            made.getpeername()  # one that failed at once has no error anymore, and no peer
    except ConnectionRefusedError:
        return Outcome.REFUSED
    except OSError:
        return Outcome.OTHER
    return Outcome.ALLOWED
