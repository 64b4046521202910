"""What should be: the oracle's side of the walk. What each cell has heard, what it went by last, and so what every call
between two containers must come to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.testlib.oracle import TLS, TUNNELS, Known, Mode, Rule, allows, arrives, named
from tests.walk.table import SERVICES, Call, Outcome


@dataclass(frozen=True)
class Container:
    """An instance: `owned` where a process of `cellnet run` stands for it, which can be killed."""

    name: str
    app: str
    cell: int
    owned: bool


@dataclass
class CellModel:
    """One cell. What it goes by (`known`) stands still while its agent is dead; what it has `heard`, while out of touch."""

    agent: bool = True
    envoy: bool = True
    plugged: bool = True
    disk: dict[str, Sequence[Rule] | None] = field(default_factory=dict)  # None: a file with a mistake
    heard: Mapping[str, Rule] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    needed: frozenset[str] = frozenset()  # apps that it has reported to the others as needing tags
    tagged: frozenset[str] = frozenset()  # apps whose tags it goes by for certain


class Model:
    """All cells, the store, and what runs."""

    def __init__(self, count: int, mode: Mode) -> None:
        self.mode = mode
        self._services = SERVICES if mode is Mode.NONE else (*SERVICES, ("tcp", TUNNELS))
        self.cells = {number: CellModel() for number in range(1, count + 1)}
        self.store: dict[str, Rule] = {}
        self.answers, self.frozen = True, False  # etcd
        self.containers: dict[str, Container] = {}
        self.unsure: set[str] = set()  # policies of which it is unknown whether a silent etcd has taken them

    def in_touch(self, number: int) -> bool:
        """Whether a cell's agent runs and reaches etcd."""
        cell = self.cells[number]
        return self.answers and cell.agent and cell.plugged

    def settle(self) -> None:
        """Every cell has heard, and goes by, all that there is to hear for it."""
        in_touch = [number for number in self.cells if self.in_touch(number)]
        for number, cell in self.cells.items():
            if number in in_touch:
                cell.heard = dict(self.store)
            if cell.agent:
                before = cell.known.files
                files = {name: before.get(name, ()) if rules is None else rules for name, rules in cell.disk.items()}
                cell.known = Known(files, cell.heard)
        for number in in_touch:
            here = {each.app for each in self.containers.values() if each.cell == number}
            self.cells[number].needed = named(self.cells[number].known.rules) | here
        everybody = frozenset().union(*(cell.needed for cell in self.cells.values()))
        for number in in_touch:
            self.cells[number].tagged = everybody

    def table(self) -> dict[Call, Outcome | None]:
        """Every call, and what must come of it: None where that cannot be known."""
        return {call: self._expected(call) for call in self._calls()}

    def _calls(self) -> Iterator[Call]:
        for source in self.containers:
            for to in self.containers:
                if source != to:
                    yield from (Call(source, to, protocol, port) for protocol, port in self._services)

    def _expected(self, call: Call) -> Outcome | None:
        source, to = self.containers[call.source], self.containers[call.to]
        there = self.cells[to.cell]
        if self.in_tunnel(call) and not self.cells[source.cell].envoy:
            return Outcome.REFUSED
        if source.cell != to.cell and not (there.plugged and self.cells[source.cell].plugged):
            return Outcome.SILENT
        if not self._may(call, source.app, to.app, there.known):
            return Outcome.REFUSED
        if source.app not in there.tagged:
            return None
        needs_envoy = self.in_tunnel(call) or call.port in (TLS, TUNNELS)
        return Outcome.REFUSED if needs_envoy and not there.envoy else Outcome.ALLOWED

    def _may(self, call: Call, source: str, to: str, known: Known) -> bool:
        """By policy; in a tunnel the packets are another matter."""
        mode = Mode.NONE if self.in_tunnel(call) else self.mode
        return arrives(source, to=to, protocol=call.protocol, port=call.port, known=known, mode=mode)

    def in_tunnel(self, call: Call) -> bool:
        """Whether Envoy carries it."""
        return self.mode is Mode.STRICT and call.is_to_app

    def agrees(self, call: Call, expected: Outcome | None, found: Outcome) -> bool:
        """Whether that was to come of it. A tunnel to a silent cell is given up after seconds, with all calls in it."""
        given_up = self.in_tunnel(call) and (expected, found) == (Outcome.SILENT, Outcome.REFUSED)
        return expected in (None, found) or given_up

    def allowing(self, call: Call) -> list[Rule]:
        """The rules that allow a call, for the report of a failure."""
        source, to = self.containers[call.source], self.containers[call.to]
        rules = self.cells[to.cell].known.rules
        return [each for each in rules if allows(each, source=source.app, to=to.app, protocol=call.protocol, port=call.port)]
