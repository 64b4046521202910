"""Asking a thousand peers whether their tunnels answer, and telling it in a line."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from agent.cells import tunnel_health
from agent.cells.tunnel_health import RATE, TunnelHealth, vtep
from agent.model.cell import Cell, CellRecord
from dataplane.state import HostState
from dataplane.tunnel_probe import TunnelAnswer

OVERLAY = IPv4Network("10.255.0.0/16")
Probe = Callable[..., Awaitable[TunnelAnswer]]


def peer(number: int) -> Cell:
    subnet = IPv4Network(f"10.255.{number}.0/24")
    return Cell(CellRecord(f"cell-{number}", f"id-{number}", subnet, IPv4Address(f"192.0.2.{number}"), "0.1"), alive_since=1.0)


PEERS = tuple(peer(number) for number in range(2, 2 + 2 * RATE))


def asking(monkeypatch: pytest.MonkeyPatch, probe: Probe) -> TunnelHealth:
    monkeypatch.setattr(tunnel_health, "probe", probe)
    ways = {each.record.subnet: each.record.underlay for each in PEERS}
    state = HostState(OVERLAY, IPv4Network("10.255.1.0/24"), 1450, workloads={}, peers=ways)
    return TunnelHealth(lambda: state, lambda: PEERS)


async def for_a_while(asked: TunnelHealth, *, until: Callable[[], bool]) -> None:
    task = asyncio.get_running_loop().create_task(asked.run())
    for _ in range(2000):
        if until() or task.done():
            break
        await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()


async def test_peers_that_are_silent_do_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, waiting = asyncio.Event(), 0

    async def probe(_vtep: IPv4Address, **_: object) -> TunnelAnswer:
        nonlocal waiting
        waiting += 1
        await silent.wait()
        return TunnelAnswer.ALL

    await for_a_while(asking(monkeypatch, probe), until=lambda: waiting == RATE)
    assert waiting == RATE


async def test_a_host_that_cannot_probe_reports_no_peer_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def probe(_vtep: IPv4Address, **_: object) -> TunnelAnswer:
        nonlocal asked
        asked += 1
        if asked <= RATE:
            raise OSError(24, "Too many open files")
        return TunnelAnswer.NONE

    found = asking(monkeypatch, probe)
    await for_a_while(found, until=lambda: len(found.answers) == RATE)
    assert found.answers == {vtep(each): TunnelAnswer.NONE for each in PEERS[RATE:]}


def test_many_tunnels_that_fail_alike_are_one_problem() -> None:
    narrow_one, dead_one = peer(250), replace(peer(251), alive_since=None)
    tunnels = TunnelHealth(lambda: None, lambda: (*PEERS, narrow_one, dead_one))
    assert list(tunnels.problems()) == []
    tunnels.answers = {
        **{vtep(each): TunnelAnswer.NONE for each in (*PEERS, dead_one)},
        vtep(PEERS[0]): TunnelAnswer.ALL,
        vtep(narrow_one): TunnelAnswer.ONLY_SMALL,
    }
    silent, narrow = tunnels.problems()
    assert silent.what.endswith(f"alive: cell-3 (192.0.2.3), cell-4 (192.0.2.4), cell-5 (192.0.2.5) and {2 * RATE - 4} more")
    assert "cell-250" in narrow.what
