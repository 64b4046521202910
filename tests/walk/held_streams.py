"""Connections that stay open during the walk, through tunnels and with the outside: one that keeps its right lives on, one that
has lost it is ended."""

import select
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.testlib.connections import is_alive, is_ended
from tests.walk.calls import Call, Outcome
from tests.walk.place import Way

MOST = 12
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Stream:
    """Both ends, and the numbers of the cells that it goes over."""

    client: socket.socket
    server: socket.socket
    cells: frozenset[int]

    def close(self) -> None:
        self.client.close()
        self.server.close()


class HeldStreams:
    """One each for some calls that are allowed. `holds` says for which, `way` and `cells` where such a call goes."""

    def __init__(
        self, holds: Callable[[Call], bool], *, way: Callable[[Call], Way], cells: Callable[[Call], frozenset[int]]
    ) -> None:
        self._holds, self._way, self._cells = holds, way, cells
        self._streams: dict[Call, Stream] = {}

    def forget(self, number: int) -> None:
        """What happens to this cell now may end streams from and to it."""
        for call, stream in list(self._streams.items()):
            if number in stream.cells:
                self._streams.pop(call).close()

    def check(self, expected: Mapping[Call, Outcome | None]) -> list[Call]:
        """Those that have been ended since, as must be; all others must live. Opens more."""
        found = []
        for call, stream in list(self._streams.items()):
            outcome = expected.get(call)
            if outcome is Outcome.ALLOWED:
                assert is_alive(stream.client, stream.server), f"{call}: its stream has ended"
                continue
            if outcome is Outcome.REFUSED:
                assert is_ended(stream.client), f"{call}: its stream lives on"
                found.append(call)
            self._streams.pop(call).close()
        for call, outcome in expected.items():
            wanted = outcome is Outcome.ALLOWED and self._holds(call) and call not in self._streams
            if wanted and len(self._streams) < MOST:
                self._streams[call] = self._opened(call)
        return found

    def _opened(self, call: Call) -> Stream:
        way = self._way(call)
        (client,) = way.client.begin({call: way}).values()
        client.settimeout(PATIENCE)
        (listener,) = (each for each, served in way.server.servers.items() if served == (call.protocol, call.port))
        assert select.select([listener], [], [], PATIENCE)[0], f"{call} does not arrive"
        server, (peer, _) = listener.accept()
        server.settimeout(PATIENCE)
        assert peer == way.seen
        return Stream(client, server, self._cells(call))

    def close(self) -> None:
        """All of them."""
        for each in self._streams.values():
            each.close()
        self._streams.clear()
