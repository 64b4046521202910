"""The truth table in strict mode: a call is accepted by its own cell's Envoy, so what comes of it is seen by its words."""

import socket
from collections.abc import Mapping
from contextlib import ExitStack

from tests.testlib.oracle import Mode
from tests.walk.calls import Call, Outcome
from tests.walk.place import Place
from tests.walk.table import Signature, Table, Trying, outcome_of

LONGEST = 64


def tried(places: Mapping[str, Place], calls: Mapping[Call, Outcome | None], *, mode: Mode) -> Table:
    """Make all calls. With each comes what is expected of it, which only says for how long it is waited for."""
    with ExitStack() as stack:
        kind = TryingTunnels if mode is Mode.STRICT else Trying
        return kind(stack, places, calls).run()


class TryingTunnels(Trying):
    """A call to an app says which one it is, and its server says that again; one that ends before is refused."""

    def __init__(self, stack: ExitStack, places: Mapping[str, Place], calls: Mapping[Call, Outcome | None]) -> None:
        super().__init__(stack, places, calls)
        self._words = {call: self.token + f" {number}".encode() for number, call in enumerate(calls)}
        self._calls = {words: call for call, words in self._words.items()}
        self._asking: set[Call] = set()
        self._taken: dict[int, tuple[socket.socket, Signature]] = {}

    def go_on(self, number: int) -> None:
        """A server's end of a call, or one's own."""
        if number in self._taken:
            self._answer(number)
            return
        call, made = self.pending[number]
        if not call.is_to_app:
            super().go_on(number)
        elif call in self._asking:
            self.end(number, _answered(made, self._words[call]))
        elif (found := outcome_of(made, call)) is not Outcome.ALLOWED:
            self.end(number, found)
        else:
            self._asking.add(call)
            made.send(self._words[call])
            self.poll.modify(number, 1)

    def arrived(self, made: socket.socket | None, signature: Signature) -> None:
        """A datagram as in every mode; a connection's caller is known by its words."""
        if made is None:
            super().arrived(made, signature)
            return
        self._taken[made.fileno()] = made, signature
        self.poll.register(made, 1)

    def _answer(self, number: int) -> None:
        """A call that has ended, or has other words, is of an earlier table: a tunnel was silent meanwhile."""
        made, signature = self._taken.pop(number)
        self.poll.unregister(number)
        try:
            words = made.recv(LONGEST)
        except ConnectionError:
            return
        call = self._calls.get(words)
        if call is None:
            return
        source = str(self.places[call.source].address)
        if (source, call.to, call.port) != (signature.caller[0], signature.to, signature.port):
            self.table.strange.append(f"{signature}, with the words of {call}")
        made.send(words)


def _answered(made: socket.socket, words: bytes) -> Outcome:
    try:
        got = made.recv(LONGEST)
    except ConnectionError:
        return Outcome.REFUSED
    return Outcome.ALLOWED if got == words else Outcome.OTHER if got else Outcome.REFUSED
