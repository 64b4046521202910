"""How far a cell is on its way to mutual TLS and back: what it does with TCP, what it says of itself, and what it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from agent.cells.rollout import UNUSED_SECONDS, MutualTlsRow, Rollout, RolloutFacts, TunnelUse
from agent.cells.tunnel_mode import Stage, TunnelMode
from agent.config.config import Mtls
from agent.errors import HostRefused
from agent.model.cell import Cell, CellRecord
from agent.store.database import Database
from agent.store.ledger import Ledger
from dataplane.state import MutualTls
from tests.testlib.samples import OWNER, request

HERE, FAR, FARTHER = (IPv4Network(f"10.255.{number}.0/24") for number in (1, 2, 3))
SERVED, ALL_REDIRECTED = MutualTls(served=True), MutualTls(served=True, redirected=True)
STRICT = MutualTls(served=True, redirected=True, plain=False)
UNUSED = TunnelUse(0, 0)


def ledger_at(path: Path, *, containers: int = 1) -> Ledger:
    made = Ledger(Database(path))
    made.adopt_subnet(HERE)
    for number in range(len(made.all()), containers):
        made.begin(request(f"web-{number}"), owner=OWNER)
        made.complete(f"web-{number}")
    return made


@dataclass
class Agents:
    """One after the other on one disk, each with a configuration of its own."""

    path: Path
    plain: frozenset[IPv4Network] = frozenset()

    def start(self, mode: Mtls, *, containers: int = 1) -> TunnelMode:
        return TunnelMode(mode, ledger_at(self.path, containers=containers), without_tunnels=lambda: self.plain)


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    return Agents(tmp_path / "cellnet.db")


def test_no_mode_has_nothing_and_says_nothing(agents: Agents) -> None:
    mode = agents.start(Mtls.NONE)
    assert (mode.mutual_tls(), mode.announced, mode.serves) == (MutualTls(), Mtls.NONE, False)


def test_accept_serves_first_and_only_then_sends_into_tunnels_and_says_so(agents: Agents) -> None:
    mode = agents.start(Mtls.ACCEPT)
    assert (mode.mutual_tls(), mode.announced, mode.is_arriving) == (SERVED, Mtls.NONE, True)
    mode.arrive()
    assert (mode.mutual_tls(), mode.announced, mode.is_arriving) == (ALL_REDIRECTED, Mtls.ACCEPT, False)


def test_strict_refuses_and_sends_nothing_plain_from_the_start(agents: Agents) -> None:
    mode = agents.start(Mtls.STRICT)
    assert (mode.mutual_tls(), mode.announced) == (STRICT, Mtls.NONE)
    mode.arrive()
    assert (mode.mutual_tls(), mode.announced) == (STRICT, Mtls.STRICT)


def test_a_cell_without_containers_has_nothing_to_wait_for(agents: Agents) -> None:
    assert agents.start(Mtls.ACCEPT, containers=0).announced is Mtls.ACCEPT
    assert agents.start(Mtls.NONE, containers=0).mutual_tls() == MutualTls()


def test_in_accept_cells_that_take_no_tunnels_are_sent_plain_as_they_are_at_each_turn(agents: Agents) -> None:
    mode = agents.start(Mtls.ACCEPT)
    mode.arrive()
    for agents.plain in (frozenset({FAR, FARTHER}), frozenset({FAR}), frozenset()):
        assert mode.mutual_tls() == MutualTls(served=True, redirected=True, exempt=agents.plain)


def test_nothing_that_another_cell_says_of_itself_makes_a_strict_one_send_plain(agents: Agents) -> None:
    agents.plain = frozenset({FAR, FARTHER})
    for _ in range(2):
        mode = agents.start(Mtls.STRICT)
        assert mode.mutual_tls() == STRICT
        mode.arrive()
        assert mode.mutual_tls() == STRICT


@pytest.mark.parametrize("mode", [Mtls.ACCEPT, Mtls.STRICT])
def test_a_restart_in_a_mode_that_was_in_force_takes_nothing_back(agents: Agents, mode: Mtls) -> None:
    agents.start(Mtls.ACCEPT).arrive()
    again = agents.start(mode)
    assert (again.announced, again.mutual_tls().redirected) == (mode, True)


def test_the_way_back_goes_on_over_restarts_until_it_is_over(agents: Agents) -> None:
    agents.start(Mtls.STRICT).arrive()
    for _ in range(2):
        mode = agents.start(Mtls.NONE)
        assert (mode.mutual_tls(), mode.announced, mode.is_leaving) == (SERVED, Mtls.NONE, True)
    mode.leave()
    assert mode.mutual_tls() == MutualTls()
    assert agents.start(Mtls.NONE).mutual_tls() == MutualTls()


def test_a_way_that_was_cut_short_is_gone_again(agents: Agents) -> None:
    agents.start(Mtls.ACCEPT)
    assert agents.start(Mtls.ACCEPT).is_arriving
    assert agents.start(Mtls.NONE).is_leaving
    agents.start(Mtls.ACCEPT).arrive()
    agents.start(Mtls.NONE)
    assert agents.start(Mtls.ACCEPT).is_arriving


def test_a_stage_that_a_later_version_wrote_is_taken_for_served(agents: Agents) -> None:
    ledger_at(agents.path).set_tunnel_stage("beyond")
    assert agents.start(Mtls.NONE).stage is Stage.SERVED


class FullDisk(Ledger):
    """Takes nothing for as long as it is `full`."""

    full = True

    def set_tunnel_stage(self, stage: str) -> None:
        if self.full:
            raise HostRefused("no room")
        super().set_tunnel_stage(stage)


def test_a_full_disk_keeps_no_cell_from_its_mode_and_is_told_later(agents: Agents) -> None:
    ledger_at(agents.path)
    disk = FullDisk(Database(agents.path))
    mode = TunnelMode(Mtls.ACCEPT, disk, without_tunnels=frozenset)
    mode.arrive()
    assert (mode.announced, disk.tunnel_stage()) == (Mtls.ACCEPT, None)
    disk.full = False
    mode.keep()
    assert disk.tunnel_stage() == "in force"


# the rollout


@dataclass
class Scene:
    """What a rollout looks at, all of it in the test's hands."""

    mode: TunnelMode
    waiting: Sequence[str] = ()
    coming: bool = False
    used: TunnelUse = UNUSED
    plain: int = 0
    peers: tuple[Cell, ...] = ()
    announced: Mtls | None = None
    now: float = 0.0
    changes: list[MutualTls] = field(default_factory=list)

    async def unserved(self) -> Sequence[str]:
        return self.waiting

    def is_attaching(self) -> bool:
        return self.coming

    async def use(self) -> TunnelUse:
        return self.used

    async def plain_flows(self) -> int:
        return self.plain

    def rollout(self) -> Rollout:
        facts = RolloutFacts(
            lambda: self.peers,
            lambda: None if self.announced is None else record("one", HERE, self.announced),
            lambda: self.now,
        )
        return Rollout(self.mode, self, facts, on_change=lambda: self.changes.append(self.mode.mutual_tls()))


def record(name: str, subnet: IPv4Network, mtls: Mtls) -> CellRecord:
    return CellRecord(name, f"id of {name}", subnet, IPv4Address("192.0.2.1"), "0.1", mtls)


def other(name: str, mtls: Mtls, *, alive: bool = True) -> Cell:
    return Cell(record(name, FAR, mtls), 1.0 if alive else None)


async def row(rollout: Rollout) -> object:
    return (await rollout.rows())["mutual_tls"]


async def test_a_cell_has_come_to_its_mode_once_every_container_is_served(agents: Agents) -> None:
    scene = Scene(agents.start(Mtls.ACCEPT), waiting=("web-0",))
    rollout = scene.rollout()
    await rollout.look()
    (problem,) = rollout.problems()
    assert "(accept) is not in force yet: no tunnels end yet in web-0" in problem.what
    assert (scene.changes, await row(rollout)) == ([], MutualTlsRow("accept", in_force=False))
    scene.waiting = ()
    await rollout.look()
    assert (scene.changes, list(rollout.problems())) == ([ALL_REDIRECTED], [])


async def test_the_listeners_go_only_when_they_were_unused_for_long_enough(agents: Agents) -> None:
    agents.start(Mtls.ACCEPT).arrive()
    scene = Scene(agents.start(Mtls.NONE), announced=Mtls.NONE, used=TunnelUse(tunnels=2, calls=1))
    rollout = scene.rollout()
    await rollout.look()
    assert await row(rollout) == MutualTlsRow("none", in_force=False, tunnels=2, calls=1)
    for scene.used, scene.now in (
        (UNUSED, 10.0), (TunnelUse(1, 0), 20.0), (UNUSED, 40.0), (TunnelUse(0, 1), 45.0),
        (UNUSED, 45.0 + UNUSED_SECONDS - 1),
    ):  # fmt: skip
        await rollout.look()
        assert scene.mode.serves
    scene.now += 1
    await rollout.look()
    assert (scene.changes, await row(rollout)) == ([MutualTls()], MutualTlsRow("none", in_force=True))


@pytest.mark.parametrize("announced", [None, Mtls.ACCEPT])
async def test_the_listeners_stay_until_the_store_has_it_that_they_go(agents: Agents, announced: Mtls | None) -> None:
    agents.start(Mtls.ACCEPT).arrive()
    scene = Scene(agents.start(Mtls.NONE), announced=announced, peers=(other("two", Mtls.ACCEPT),), now=100.0)
    rollout = scene.rollout()
    for scene.now in (100.0, 200.0):
        await rollout.look()
    assert scene.mode.serves
    scene.announced = Mtls.NONE
    for scene.now in (200.0 + UNUSED_SECONDS - 1, 200.0 + UNUSED_SECONDS):
        await rollout.look()
    assert not scene.mode.serves


async def test_a_container_on_its_way_in_gets_the_listeners_that_it_was_promised(agents: Agents) -> None:
    agents.start(Mtls.ACCEPT).arrive()
    scene = Scene(agents.start(Mtls.NONE), announced=Mtls.NONE, coming=True)
    rollout = scene.rollout()
    scene.now = UNUSED_SECONDS
    await rollout.look()
    assert scene.mode.serves


async def test_plain_flows_and_cells_without_tunnels_are_shown_in_accept(agents: Agents) -> None:
    agents.start(Mtls.ACCEPT).arrive()
    peers = (other("three", Mtls.STRICT), other("ten", Mtls.NONE), other("two", Mtls.NONE, alive=False))
    scene = Scene(agents.start(Mtls.ACCEPT), plain=3, peers=peers)
    rollout = scene.rollout()
    await rollout.look()
    assert await row(rollout) == MutualTlsRow("accept", in_force=True, plain_cells=("ten", "two"), plain_flows=3)
    assert list(rollout.problems()) == []


async def test_a_strict_cell_names_living_cells_that_it_cannot_call(agents: Agents) -> None:
    agents.start(Mtls.STRICT).arrive()
    peers = (other("three", Mtls.ACCEPT), other("ten", Mtls.NONE), other("two", Mtls.NONE, alive=False))
    rollout = Scene(agents.start(Mtls.STRICT), peers=peers).rollout()
    assert [each.what for each in rollout.problems()] == ["cell ten takes no tunnels, so no container here reaches one there"]
