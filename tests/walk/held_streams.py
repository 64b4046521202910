"""Streams that stay open during the walk in strict mode: one that keeps its right lives on, one that has lost it is ended."""

import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from tests.testlib.connections import is_alive, is_ended
from tests.walk.model import Model
from tests.walk.table import Call, Outcome, Place

MOST = 12
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Stream:
    """Both ends."""

    client: socket.socket
    server: socket.socket

    def close(self) -> None:
        self.client.close()
        self.server.close()


class HeldStreams:
    """One each for some calls that are allowed."""

    def __init__(self, model: Model, places: Mapping[str, Place]) -> None:
        self._model, self._places = model, places
        self._streams: dict[Call, Stream] = {}
        self.ended = 0

    def forget(self, number: int) -> None:
        """What happens to this cell now may end streams from and to it."""
        for call in list(self._streams):
            if number in {self._model.containers[each].cell for each in (call.source, call.to) if each in self._places}:
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
        self.ended += len(found)
        for call, outcome in expected.items():
            wanted = outcome is Outcome.ALLOWED and self._model.in_tunnel(call) and call not in self._streams
            if wanted and len(self._streams) < MOST:
                self._streams[call] = self._opened(call)
        return found

    def _opened(self, call: Call) -> Stream:
        source, to = self._places[call.source], self._places[call.to]
        (client,) = source.begin({call: to.address}).values()
        client.settimeout(PATIENCE)
        (listener,) = (each for each, served in to.servers.items() if served == (call.protocol, call.port))
        assert select.select([listener], [], [], PATIENCE)[0], f"{call} does not arrive"
        server, (peer, _) = listener.accept()
        server.settimeout(PATIENCE)
        assert peer == str(source.address)
        return Stream(client, server)

    def close(self) -> None:
        """All of them."""
        for each in self._streams.values():
            each.close()
        self._streams.clear()
