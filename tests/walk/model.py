"""What should be: the oracle's side of the walk. What each cell has heard, what it went by last, and so what every call
between two containers must come to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.testlib.oracle import TLS, TUNNELS, Known, Mode, Rule, allows, arrives, comes_in, goes_out, named
from tests.walk.calls import SERVICES, Call, Outcome
from tests.walk.outside_ends import ADDRESSES, CALLED_OUTSIDE, HOSTS, MOST_CONNECTIONS, PUBLISHED


@dataclass(frozen=True)
class Container:
    """An instance: `owned` where a process of `cellnet run` stands for it, which can be killed. `published`: all its ports are;
    `limited`: it may have but a few connections open to outside."""

    name: str
    app: str
    cell: int
    owned: bool
    published: bool
    limited: bool


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
        self._unanswered: set[str] = set()  # containers with a limit that have called while no answer could come
        self.unsure: set[str] = set()  # policies of which it is unknown whether a silent etcd has taken them

    def in_touch(self, number: int) -> bool:
        """Whether a cell's agent runs and reaches etcd."""
        cell = self.cells[number]
        return self.answers and cell.agent and cell.plugged

    def is_well(self) -> bool:
        """Whether all is there, and in touch."""
        return all(self.in_touch(number) and cell.envoy for number, cell in self.cells.items())

    def instances(self, app: str) -> list[Container]:
        """Those of an app on all cells."""
        return [each for each in self.containers.values() if each.app == app]

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

    def outside_table(self) -> dict[Call, Outcome | None]:
        """Every call from a container to outside, and from there to one that is published."""
        return {
            **{call: self._expected_outside(call) for call in self._calls_out()},
            **{call: self._expected_inside(call) for call in self._calls_in()},
        }

    def _calls_out(self) -> Iterator[Call]:
        for source in self.containers.values():
            for to in (*ADDRESSES, *HOSTS):
                for protocol, port in CALLED_OUTSIDE:
                    if protocol == "tcp" or not source.limited:  # a datagram is a flow until it is forgotten
                        yield Call(source.name, to, protocol, port)

    def _calls_in(self) -> Iterator[Call]:
        for to in self.containers.values():
            if to.published:
                yield from (Call(caller, to.name, protocol, port) for caller in ADDRESSES for protocol, port in PUBLISHED)

    def _expected_outside(self, call: Call) -> Outcome | None:
        source = self.containers[call.source]
        cell = self.cells[source.cell]
        by_address = self._goes_out(source, HOSTS.get(call.to, call.to), call)
        if not by_address and not (call.to in HOSTS and self._goes_out(source, call.to, call)):
            return Outcome.REFUSED
        if not by_address and not self.asks(source.name):
            return None  # what was answered before holds for a while
        return Outcome.ALLOWED if cell.plugged else Outcome.SILENT

    def _goes_out(self, source: Container, to: str, call: Call) -> bool:
        known = self.cells[source.cell].known
        return goes_out(source.app, to=to, protocol=call.protocol, port=call.port, known=known)

    def _expected_inside(self, call: Call) -> Outcome:
        to = self.containers[call.to]
        cell = self.cells[to.cell]
        if not cell.plugged:
            return Outcome.SILENT
        may = comes_in(call.source, to=to.app, protocol=call.protocol, port=call.port, known=cell.known)
        return Outcome.ALLOWED if may and (call.port != TLS or cell.envoy) else Outcome.REFUSED

    def asks(self, name: str) -> bool:
        """Whether a container can ask for hosts now: without an agent nothing is opened, without a cable nothing answers."""
        cell = self.cells[self.containers[name].cell]
        return cell.agent and cell.plugged

    def told(self, name: str) -> dict[str, list[str]]:
        """What a container must be answered for each host."""
        source = self.containers[name]
        calls = [Call(name, "", protocol, port) for protocol, port in (*CALLED_OUTSIDE, ("tcp", TLS), ("tcp", 80), ("udp", 53))]
        return {
            host: [address] if any(self._goes_out(source, host, call) for call in calls) else []
            for host, address in HOSTS.items()
        }

    def agrees_outside(self, expected: Mapping[Call, Outcome | None], found: Mapping[Call, Outcome]) -> list[Call]:
        """The calls that came to something else. Of those that a container with a limit may make some are refused."""
        wrong = []
        for call, outcome in expected.items():
            cut_off = outcome is Outcome.SILENT and found[call] is Outcome.OTHER  # a neighbour that does not answer
            too_many = found[call] is Outcome.REFUSED and self._is_limited(call)
            if not (outcome in (None, found[call]) or cut_off or too_many):
                wrong.append(call)
        for name in (each.name for each in self.containers.values() if each.limited):
            own = [call for call in expected if call.source == name]
            if any(expected[call] is Outcome.SILENT for call in own):
                self._unanswered.add(name)  # of these calls the kernel waits minutes for an end
            least = 0 if name in self._unanswered else sum(expected[call] is Outcome.ALLOWED for call in own)
            if not min(least, MOST_CONNECTIONS) <= sum(found[call] is Outcome.ALLOWED for call in own) <= MOST_CONNECTIONS:
                wrong += own
        return wrong

    def _is_limited(self, call: Call) -> bool:
        return call.source in self.containers and self.containers[call.source].limited

    def _may(self, call: Call, source: str, to: str, known: Known) -> bool:
        """By policy; in a tunnel the packets are another matter."""
        mode = Mode.NONE if self.in_tunnel(call) else self.mode
        return arrives(source, to=to, protocol=call.protocol, port=call.port, known=known, mode=mode)

    def in_tunnel(self, call: Call) -> bool:
        """Whether Envoy carries it."""
        return self.mode is Mode.STRICT and call.is_to_app

    def is_held(self, call: Call) -> bool:
        """Whether some connections of this kind stay open, with the outside."""
        return call.is_to_app and not self._is_limited(call)

    def cells_of(self, call: Call) -> frozenset[int]:
        """Where the containers are."""
        return frozenset(self.containers[each].cell for each in (call.source, call.to) if each in self.containers)

    def agrees(self, call: Call, expected: Outcome | None, found: Outcome) -> bool:
        """Whether that was to come of it. A tunnel to a silent cell is given up after seconds, with all calls in it."""
        given_up = self.in_tunnel(call) and (expected, found) == (Outcome.SILENT, Outcome.REFUSED)
        return expected in (None, found) or given_up

    def allowing(self, call: Call) -> list[Rule]:
        """The rules that allow a call, for the report of a failure."""
        source, to = self.containers[call.source], self.containers[call.to]
        rules = self.cells[to.cell].known.rules
        return [each for each in rules if allows(each, source=source.app, to=to.app, protocol=call.protocol, port=call.port)]
