"""The table of the outside: what comes of calls out of the overlay and in by published ports, all tried at once.

Here the test's own process holds both ends, too. Between them an address or a port is another, so a call says which one it is,
over TCP as over UDP, and what it comes to says that again.
"""

import itertools
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress

from tests.walk.calls import Call, Outcome
from tests.walk.place import RESET, Place, Way
from tests.walk.table import PATIENCE, RESEND, SILENCE, Table, outcome_of

LONGEST = 64
PKTINFO = struct.Struct("@I4s4s")
_tables = itertools.count()


def tried_outside(ways: Mapping[Call, Way], calls: Mapping[Call, Outcome | None]) -> Table:
    """Make all calls. With each comes what is expected of it, which only says for how long it is waited for."""
    with ExitStack() as stack:
        return _Trying(stack, ways, calls).run()


class _Trying:
    """One table."""

    def __init__(self, stack: ExitStack, ways: Mapping[Call, Way], calls: Mapping[Call, Outcome | None]) -> None:
        self._stack, self._ways, self._expected = stack, ways, calls
        self._table, number = Table(), next(_tables)
        self._words = {call: f"outside {number} {place}".encode() for place, call in enumerate(calls)}
        self._calls = {words: call for call, words in self._words.items()}
        self._pending: dict[int, tuple[Call, socket.socket]] = {}
        self._asking: set[Call] = set()
        self._taken: dict[int, tuple[socket.socket, Place, int]] = {}
        self._servers = {
            server.fileno(): (server, place, served)
            for place in {way.server for way in ways.values()}
            for server, served in place.servers.items()
        }
        self._poll = select.poll()

    def run(self) -> Table:
        for number in self._servers:
            self._poll.register(number, select.POLLIN)
        for place in {way.client for way in self._ways.values()}:
            for call, made in place.begin({call: way for call, way in self._ways.items() if way.client is place}).items():
                self._stack.callback(made.close)
                self._pending[made.fileno()] = call, made
                self._poll.register(made, select.POLLOUT if call.protocol == "tcp" else select.POLLIN)
        began, sent = time.monotonic(), 0.0
        while self._waits(time.monotonic() - began):
            if time.monotonic() > sent + RESEND:
                sent = time.monotonic()
                self._send()
            for number, _ in self._poll.poll(10):
                self._serve(number) if number in self._servers else self._go_on(number)
        self._table.found.update((call, Outcome.SILENT) for call, _ in self._pending.values())
        return self._table

    def _waits(self, waited: float) -> bool:
        needed = any(self._expected[call] in (Outcome.ALLOWED, Outcome.REFUSED) for call, _ in self._pending.values())
        return waited < PATIENCE and (needed or (bool(self._pending) and waited < SILENCE))

    def _send(self) -> None:
        for call, made in self._pending.values():
            if call.protocol == "udp":
                with suppress(OSError):  # of an earlier one; poll reports it, too
                    made.send(self._words[call])

    def _go_on(self, number: int) -> None:
        """Something has come of the call with this descriptor, or it is the server's end of one."""
        if number in self._taken:
            self._answer(number)
            return
        call, made = self._pending[number]
        if call.protocol == "udp" or call in self._asking:
            self._end(number, _answered(made, self._words[call]))
        elif (found := outcome_of(made, call)) is not Outcome.ALLOWED or not call.is_to_app:
            self._end(number, found)
        else:
            self._asking.add(call)
            made.send(self._words[call])
            self._poll.modify(number, select.POLLIN)

    def _end(self, number: int, outcome: Outcome) -> None:
        call, _ = self._pending.pop(number)
        self._poll.unregister(number)
        self._table.found[call] = outcome

    def _serve(self, number: int) -> None:
        server, place, (protocol, port) = self._servers[number]
        if protocol == "udp":
            for words, dialled, info, peer in _datagrams(server):
                if self._is_right(words, place, port, peer[0], dialled):
                    server.sendmsg([words], info, 0, peer)
            return
        with suppress(BlockingIOError):
            while True:
                made, _ = server.accept()
                made.setblocking(False)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self._stack.callback(made.close)
                self._taken[made.fileno()] = made, place, port
                self._poll.register(made, select.POLLIN)

    def _answer(self, number: int) -> None:
        made, place, port = self._taken.pop(number)
        self._poll.unregister(number)
        with suppress(OSError):  # it has ended
            words = made.recv(LONGEST)
            if self._is_right(words, place, port, made.getpeername()[0], made.getsockname()[0]):
                made.send(words)

    def _is_right(self, words: bytes, place: Place, port: int, peer: str, dialled: str) -> bool:
        """Whether this is one of the calls. One that came another way than it should is strange."""
        call = self._calls.get(words)
        if call is None:
            return False  # late, of an earlier table
        way = self._ways[call]
        if (place, port, peer, dialled) != (way.server, call.port, way.seen, way.arrives):
            self._table.strange.append(f"{call} came to {dialled} {call.protocol}/{port} as from {peer}")
        return True


def _answered(made: socket.socket, words: bytes) -> Outcome:
    try:
        return Outcome.ALLOWED if made.recv(LONGEST) == words else Outcome.OTHER
    except ConnectionRefusedError:
        return Outcome.REFUSED
    except OSError:
        return Outcome.OTHER


Datagram = tuple[bytes, str, list[tuple[int, int, bytes]], tuple[str, int]]


def _datagrams(server: socket.socket) -> Iterator[Datagram]:
    """All that have come: the words, the address that they came to, what makes an answer leave from there, and the sender."""
    with suppress(BlockingIOError):
        while True:
            words, info, _, peer = server.recvmsg(LONGEST, 128)
            yield words, socket.inet_ntoa(PKTINFO.unpack(info[0][2])[2]), info, peer
