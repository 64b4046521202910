"""What is: three real cells with their etcd, and the steps of the walk as they are done to them, each reported to the model."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest

from agent.client.connection import RequestBody, attachment_address
from agent.errors import Unavailable
from host import namespace
from lab.cell import Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.instance import Instance
from tests.testlib.oracle import Mode, Rule, opened
from tests.testlib.patience import eventually
from tests.testlib.status import reports
from tests.walk.beyond import Beyond
from tests.walk.calls import Call, Outcome
from tests.walk.held_streams import HeldStreams
from tests.walk.model import Container, Model
from tests.walk.outside_ends import MOST_CONNECTIONS, publications
from tests.walk.place import Place, Way
from tests.walk.table import Table, between
from tests.walk.tunnelled_table import tried

MARKER, ITS_APP = "marker", "acme/walk/marker"
MISTAKE = "policies: [{from: acme/shop/web, to: acme/shop/api, tcp: 123456}]\n"
TOLD = 12  # lines of a log
GIVEN_UP = 5.0  # seconds after which a tunnel that was dialled in an outage has ended, with a margin
Done = TypeVar("Done")
PATIENCE = 60.0  # seconds: an agent starts, and etcd answers, late on a machine that is busy
Meaning = tuple[frozenset[str], frozenset[str], tuple[str, ...], tuple[str, ...]]


class World:
    """Each step is a method; what it does is reported to `model`, whose `settle` is called when all have heard of it."""

    def __init__(self, cells: CellsUnderTest, model: Model) -> None:
        self._cells, self.model = cells, model
        self._places: dict[str, Place] = {}
        self._instances: dict[str, Instance] = {}
        self._held = HeldStreams(model.in_tunnel, way=self._way, cells=model.cells_of)
        self._marks = 0
        self._unplugged: dict[int, float] = {}
        self._recovered = 0.0
        self._unconnected: set[int] = set()  # cells whose Envoy and agent have to find each other anew
        for each in cells:  # or a cell reports refusals only now and then: a table of them is more than it reports in a second
            each.host.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000",
                          "net.ipv4.icmp_msgs_burst=10000")  # fmt: skip
            (each.lab.root / "walk").mkdir()
            namespace.create(each.lab.root / "walk/spare")
        self.beyond = Beyond(cells, model, self._places)

    def close(self) -> None:
        """Leave the containers; the cells are not ours."""
        self._held.close()
        self.beyond.close()
        for each in self._places.values():
            each.close()

    # containers

    def attach(self, number: int, app: str, name: str, owned: bool, published: bool, limited: bool) -> None:
        cell, made_of = self._cells[number], Container(name, app, number, owned, published, limited)
        if owned:
            made = self._instances[name] = self._done(number, lambda: cell.run_app(app, name=name, options=_options(made_of)))
            pin, address = made.pin, made.address
        else:
            pin = cell.lab.root / "walk" / name
            namespace.create(pin)
            address = self._done(number, lambda: _attached(cell, made_of, pin))
        self._places[name] = Place(pin, address=address)
        self.model.containers[name] = made_of

    def attach_in_vain(self, number: int, app: str) -> None:
        """An app without a tag, while the store cannot give one."""
        cell = self._cells[number]
        with pytest.raises(Unavailable):
            _attached(cell, Container("spare", app, number, False, False, False), cell.lab.root / "walk/spare")
        assert "spare" not in cell.attachments()

    def detach(self, name: str) -> None:
        gone = self._forgotten(name)
        if gone.owned:
            self._instances.pop(name).stop()
        else:
            self._cells[gone.cell].client.delete(attachment_address(name))
            namespace.unpin(self._cells[gone.cell].lab.root / "walk" / name)

    def kill_container(self, name: str) -> None:
        """No command detaches it: its agent sees to that, when there is one."""
        self._forgotten(name)
        self._instances.pop(name).kill()

    def _forgotten(self, name: str) -> Container:
        self._places.pop(name).close()
        return self.model.containers.pop(name)

    def _done(self, number: int, do: Callable[[], Done]) -> Done:
        """Have something done; again where the machine is so busy that etcd, which is there, does not answer in time."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return do()
            except Unavailable:
                if not self.model.in_touch(number) or time.monotonic() > until:
                    raise
            time.sleep(0.05)

    # policies

    def write_file(self, number: int, name: str, rules: Sequence[Rule]) -> None:
        self._cells[number].policy_file(name, json.dumps({"policies": rules}), sync=False)
        self.model.cells[number].disk[name] = rules

    def spoil_file(self, number: int, name: str) -> None:
        self._cells[number].policy_file(name, MISTAKE, sync=False)
        self.model.cells[number].disk[name] = None

    def remove_file(self, number: int, name: str) -> None:
        self._cells[number].remove_policy_file(name, sync=False)
        del self.model.cells[number].disk[name]

    def allow(self, number: int, name: str, source: str, to: str, port: str) -> None:
        body = {"from": source, "to": to, "ports": [port], "name": name}
        self._done(number, lambda: self._cells[number].client.post("/v1/policies/allow", body))
        protocol, _, which = port.partition("/")
        self.model.store[name] = {"from": source, "to": to, protocol: which}

    def apply(self, number: int, rules: Sequence[Rule]) -> None:
        self._done(number, lambda: self._apply(number, rules))
        self.model.store.update({str(rule["name"]): rule for rule in rules})

    def _apply(self, number: int, rules: Sequence[Rule]) -> None:
        self._cells[number].client.post("/v1/policies/apply", {"document": json.dumps({"policies": rules})})

    def delete(self, number: int, name: str) -> None:
        self._done(number, lambda: self._cells[number].client.delete(f"/v1/policies/{quote(name, safe='')}"))
        del self.model.store[name]

    def allow_in_vain(self, number: int, name: str, rule: Rule) -> None:
        """Out of touch with the store: an error that reports so. A silent etcd may take the change when it goes on."""
        with pytest.raises(Unavailable, match="etcd"):
            self._apply(number, [{"name": name, **rule}])
        self.model.unsure.add(name)

    # faults

    def kill_agent(self, number: int) -> None:
        self._cells[number].kill("agent")
        self.model.cells[number].agent = False

    def kill_envoy(self, number: int) -> None:
        self._held.forget(number)
        self._cells[number].kill("envoy")
        self.model.cells[number].envoy = False

    def restart_envoy(self, number: int) -> None:
        self._held.forget(number)
        lab = self._cells[number].lab
        former = lab.kill(Part.ENVOY, again=True)
        self._unconnected.add(number)
        # its sockets are there for a moment longer, and are not to be taken for those of the next one
        eventually(lambda: (found := lab.part(Part.ENVOY)) is not None and found.pid != former.pid)

    def start(self, number: int) -> None:
        self._cells[number].start(well=False)
        self._unconnected.add(number)
        self.model.cells[number].agent = self.model.cells[number].envoy = True

    def partition(self, number: int) -> None:
        self._held.forget(number)
        self.beyond.forget(number)
        self._cells.partition(number)
        self.model.cells[number].plugged = False
        self._unplugged[number] = time.monotonic()

    def heal(self, number: int) -> None:
        self._cells.heal(number)
        self.model.cells[number].plugged = True
        now = time.monotonic()
        self._recovered = max(self._recovered, now + GIVEN_UP + now - self._unplugged.pop(number))

    def stop_etcd(self, frozen: bool) -> None:
        self._cells.etcd.freeze() if frozen else self._cells.etcd.kill()
        self.model.answers, self.model.frozen = False, frozen

    def start_etcd(self) -> None:
        self._cells.etcd.start()
        self.model.answers, self.model.frozen = True, False

    # what came of it

    def settle(self) -> None:
        """Wait until every cell goes by all that it can have heard of."""
        running = {number: self._cells[number] for number, cell in self.model.cells.items() if cell.agent}
        for number in running:
            eventually(partial(self._serves, number), seconds=PATIENCE)
        in_touch = [number for number in running if self.model.in_touch(number)]
        if in_touch:
            self._mark(in_touch)
            if self.model.unsure:
                self._make_sure(in_touch[0])
                self._mark(in_touch)
        for number, cell in running.items():
            missing = cell.client.post("/v1/sync", {"timeout": 20.0}).texts("missing")
            spoiled = {name for name, rules in self.model.cells[number].disk.items() if rules is None}
            assert {Path(each.partition(":")[0]).name for each in missing} == spoiled, f"cell {number}: {missing}"
            if number in self._unconnected and self.model.cells[number].envoy:
                eventually(partial(_envoy_has_all, cell), seconds=PATIENCE)
                self._unconnected.remove(number)
        self.model.settle()
        for number, cell in running.items():
            listed = {name: what for name, what in _stored(cell).items() if name != MARKER}
            heard = {name: _meaning(rule) for name, rule in self.model.cells[number].heard.items()}
            assert listed == heard, f"cell {number} has heard of {listed}, which should be {heard}"

    def _serves(self, number: int) -> bool:
        """Whether a cell's agent answers and, where its Envoy is not dead, that listens in all of its containers."""
        cell, here = self.model.cells[number], [name for name, each in self.model.containers.items() if each.cell == number]
        try:
            attached = set(self._cells[number].attachments())
        except Unavailable:
            return False
        return attached.issuperset(here) and (
            not cell.envoy or all(self._places[name].has_envoy(self.model.mode) for name in here)
        )

    def _mark(self, numbers: Sequence[int]) -> None:
        """A cell that has heard of the last change has heard of all before it."""
        self._marks += 1
        mark: Rule = {"name": MARKER, "from": ITS_APP, "to": ITS_APP, "tcp": self._marks}
        eventually(lambda: self._marked(numbers[0], mark), seconds=PATIENCE)
        for number in numbers:
            eventually(partial(_heard, self._cells[number], mark), seconds=PATIENCE)

    def _make_sure(self, number: int) -> None:
        """As an operator would do after the report that something may have been done all the same."""
        for name in sorted(self.model.unsure):
            if name in self.model.store:
                self._done(number, partial(self._apply, number, [{"name": name, **self.model.store[name]}]))
            elif name in _stored(self._cells[number]):
                self._done(number, partial(self._cells[number].client.delete, f"/v1/policies/{name}"))
        self.model.unsure.clear()

    def _marked(self, number: int, mark: Rule) -> bool:
        with suppress(Unavailable):  # a cell that has just come back
            self._apply(number, [mark])
            return True
        return False

    def told(self) -> str:
        """The end of what each cell's agent has logged, without its Envoy's words."""
        lines = {each.lab.number: [line for line in each.log.splitlines() if line.startswith("{")] for each in self._cells}
        return "\n".join(f"cell {number}: {line}" for number, told in lines.items() for line in told[-TOLD:])

    def recovers(self) -> bool:
        """Whether tunnels may still wait for the next packet that TCP sends again: for as long as the outage was, at most."""
        return self.model.mode is Mode.STRICT and time.monotonic() < self._recovered

    def tried(self) -> Table:
        """Make all calls."""
        return tried(self._places, self.model.table(), mode=self.model.mode)

    def _way(self, call: Call) -> Way:
        return between(self._places[call.source], self._places[call.to], call.port)

    def judge_streams(self, expected: Mapping[Call, Outcome | None]) -> int:
        """Streams that were open before live on or are ended, with a receipt, as what is expected of a call has it.

        The number of those that were ended.
        """
        ended = self._held.check(expected)
        for call in ended:
            source, to = self._places[call.source].address, self._places[call.to].address
            receipt = re.compile(
                rf'streams? of [^"]*{re.escape(str(source))}\b[^"]*{re.escape(str(to))}\b[^"]* tcp/{call.port}\b'
            )
            eventually(partial(self._has_logged, receipt), seconds=PATIENCE)
        return len(ended)

    def _has_logged(self, words: re.Pattern[str]) -> bool:
        return any(words.search(each.log) for each in self._cells)

    def explanation(self, number: int, *, source: str, to: str, port: str) -> Mapping[str, object]:
        """What one cell says of a way."""
        found = self._cells[number].client.get("/v1/explain", **{"from": source, "to": to, "port": port}).value
        assert isinstance(found, dict)
        return found

    def explained(self, call: Call) -> str:
        """All that may show why a call came to what it came to."""
        source, to = self.model.containers[call.source], self.model.containers[call.to]
        cell, there = self._cells[to.cell], self._places[call.to].address
        lines = [f"{source}, {self._places[call.source].address}; {to}, {there}; cell {to.cell}: {self.model.cells[to.cell]}"]
        lines.append(f"rules that allow it: {self.model.allowing(call)}")
        with suppress(Unavailable):
            words = {"from": source.app, "to": to.app, "port": f"{call.protocol}/{call.port}"}
            lines.append(f"policy check: {cell.client.get('/v1/policies/check', **words).value}")
        lines += [rule for rule in cell.rules() if f"CELLNET-{int(there):08x}" in rule]
        lines.append(self._cells[source.cell].host.run("ipset", "save", "cellnet-tags"))
        return "\n".join(lines)


def _attached(cell: CellUnderTest, made_of: Container, path: Path) -> IPv4Address:
    publish = publications(made_of.name) if made_of.published else []
    limits = {"connections": MOST_CONNECTIONS} if made_of.limited else {}
    body: RequestBody = {"app": made_of.app, "netns": str(path), "ports": (8080,), "publish": publish, "limits": limits}
    return IPv4Address(cell.client.ask("PUT", attachment_address(made_of.name), body).fields.text("address"))


def _options(made_of: Container) -> list[str]:
    ports = publications(made_of.name) if made_of.published else []
    words = [f"--publish={each['port']}:{each.get('to', 'tls')}/{each['protocol']}" for each in ports]
    return [word.removesuffix("/tcp") for word in words] + [
        f"--limit-connections={MOST_CONNECTIONS}" for _ in range(made_of.limited)
    ]


def _heard(cell: CellUnderTest, rule: Rule) -> bool:
    return _stored(cell).get(str(rule["name"])) == _meaning(rule)


def _envoy_has_all(cell: CellUnderTest) -> bool:
    """Whether Envoy goes by what the agent that runs now has for it: until then it judges streams as it did before."""
    return cell.status().at("envoy").flag("connected") and not reports(cell, "envoy")


def _stored(cell: CellUnderTest) -> dict[str, Meaning]:
    """The store's policies as a cell lists them."""
    listed = [each for each in cell.client.get("/v1/policies").each() if each.at("origin").at("line").missing]
    return {
        each.text("name"): (_end(each.at("from").value), _end(each.at("to").value), each.texts("tcp"), each.texts("udp"))
        for each in listed
    }


def _meaning(rule: Rule) -> Meaning:
    """A rule as a cell lists it."""
    tcp, udp = (tuple(_written(*each) for each in opened(rule, protocol)) for protocol in ("tcp", "udp"))
    return _end(rule["from"]), _end(rule["to"]), tcp, udp


def _end(written: object) -> frozenset[str]:
    """An end, whatever stands for a list of one. Of outside each network and host with its key; networks all with a prefix."""
    if isinstance(written, Mapping):
        return frozenset(
            f"{key} {each if key == 'host' else ip_network(each)}" for key, some in written.items() for each in _end(some)
        )
    return frozenset(map(str, written)) if isinstance(written, list) else frozenset({str(written)})


def _written(first: int, last: int) -> str:
    if (first, last) == (1, 65535):
        return "any"
    return str(first) if first == last else f"{first}-{last}"
