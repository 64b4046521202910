"""Problems and other cells that come and go are told once each, however often they are looked at."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import cast

from agent.insight.history.on_disk import HistoryFile
from agent.insight.history.seen_changes import SeenChanges
from agent.insight.history.seen_policies import SeenPolicies
from agent.model.cell import Cell, CellRecord
from agent.model.outside import NOTHING_INSIDE
from agent.model.policy import Policy
from agent.model.status import Problem
from agent.policy.language.language import parse, parse_stored
from agent.store.protocols import CellStore
from tests.testlib.fakes.cell import in_memory


class Scene:
    """What a cell sees of itself and of others, and what it tells of it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.listed: tuple[Cell, ...] = (a_cell("one"), a_cell("two"))
        self.history = in_memory(HistoryFile(Path("/nonexistent/events.jsonl")))
        self.seen = SeenChanges(
            self.history,
            cell="one",
            cells=cast("CellStore", self),
            problems=lambda: self.problems,
            policies=SeenPolicies(self.history, written=self.written, in_force=self.in_force),
        )
        self.told = 0
        self.policies: tuple[Policy, ...] = ()
        self.ended: frozenset[str] = frozenset()

    async def written(self) -> tuple[Policy, ...]:
        return self.policies

    async def in_force(self) -> tuple[Policy, ...]:
        return tuple(each for each in self.policies if each.name not in self.ended) if self.ended else self.policies

    async def cells(self) -> tuple[Cell, ...]:
        return self.listed

    async def look(self) -> list[str]:
        """What is new in the history."""
        await self.seen.look()
        found = [each.what for each in (await self.history.since(None, area=None, most=100)).entries][self.told :]
        self.told += len(found)
        return found


def a_cell(name: str, *, alive: bool = True) -> Cell:
    record = CellRecord(name, "id", IPv4Network("10.255.2.0/24"), IPv4Address("192.0.2.2"), "0.1.0")
    return Cell(record, 1.0 if alive else None)


async def test_a_problem_is_told_when_it_comes_and_when_it_is_over() -> None:
    scene = Scene()
    assert await scene.look() == []
    scene.problems = [Problem("store", "etcd has been silent for 7 s")]
    assert await scene.look() == ["store: etcd has been silent for 7 s"]
    scene.problems = [Problem("store", "etcd has been silent for 17 s"), Problem("dns", "dnsmasq does not answer")]
    assert await scene.look() == ["dns: dnsmasq does not answer"]
    scene.problems = []
    assert await scene.look() == ["over, store: etcd has been silent for 17 s", "over, dns: dnsmasq does not answer"]


async def test_cells_that_come_and_go_are_told_and_those_of_the_first_look_are_not() -> None:
    scene = Scene()
    assert await scene.look() == []
    scene.listed = (a_cell("one", alive=False), a_cell("two", alive=False), a_cell("three"))
    where = "(192.0.2.2, 10.255.2.0/24)"
    assert sorted(await scene.look()) == [f"cell three {where} is new", f"cell two {where} is out of touch"]
    scene.listed = (a_cell("two"),)
    assert sorted(await scene.look()) == ["cell three has been removed", f"cell two {where} is back"]


def in_file(*rules: str, name: str = "shop") -> tuple[Policy, ...]:
    text = "policies:\n" + "".join(f"- {{{rule}, from: acme/shop/web, to: acme/shop/api}}\n" for rule in rules)
    return parse(text.encode(), source=f"/etc/{name}.yaml", inside=NOTHING_INSIDE)


async def test_changes_of_policies_are_told_by_file_and_name_and_other_lines_are_none() -> None:
    scene = Scene()
    stored = (
        parse_stored("d", "policies: [{name: d, from: acme/shop/web, to: acme/shop/api, tcp: 4}]", inside=NOTHING_INSIDE),
    )
    scene.policies = in_file("name: a, tcp: 1", "name: b, tcp: 2") + stored
    assert await scene.look() == []
    scene.policies = in_file("name: c, tcp: 3", "name: a, tcp: 1", "name: b, tcp: 5") + stored
    assert await scene.look() == ["/etc/shop.yaml: added c; changed b"]
    scene.policies = in_file("name: a, tcp: 1", name="new")
    assert await scene.look() == ["/etc/new.yaml: added a", "/etc/shop.yaml: removed a, b, c", "store: removed d"]
    assert await scene.look() == []


async def test_policies_that_end_by_themselves_are_told_once_and_when_they_hold_again() -> None:
    scene = Scene()
    scene.policies = in_file("name: a, tcp: 80, until: 2999-01-01T00:00Z", "name: b, tcp: 81, until: 2999-01-01T00:00Z")
    scene.ended = frozenset("b")
    assert await scene.look() == []
    scene.ended = frozenset("ab")
    assert await scene.look() == ["/etc/shop.yaml: ended a"]
    assert await scene.look() == []
    scene.ended = frozenset()
    assert await scene.look() == ["/etc/shop.yaml: holds again a, b"]
    scene.ended = frozenset("a")
    assert await scene.look() == ["/etc/shop.yaml: ended a"]
    scene.policies, scene.ended = (), frozenset()
    assert await scene.look() == ["/etc/shop.yaml: removed a, b"]
