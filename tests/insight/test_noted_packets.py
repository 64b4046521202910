"""Where nothing can be heard of what is refused, that is a problem, until it can."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Network

import pytest

from agent.insight.refusals import noted_packets
from agent.insight.refusals.denied import Denied
from agent.insight.refusals.noted_packets import NotedPackets, Whereabouts
from agent.insight.refusals.tried_calls import TriedCalls
from agent.insight.refusals.untaken_tunnels import UntakenTunnels
from agent.insight.whose import Whose
from agent.metrics import Metrics
from agent.model.names import AppName
from agent.model.policy import Policy, Protocol
from dataplane.netlink.notes import Notes
from host.namespace import run_in
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually_async


async def no_tags() -> Mapping[AppName, int]:
    return {}


async def no_policy(_source: AppName, _to: AppName, _protocol: Protocol, _port: int) -> Policy | None:
    return None


WHERE = Whereabouts(
    IPv4Network("10.255.0.0/16"),
    IPv4Network("10.255.1.0/24"),
    lambda _: None,
    Whose(lambda _: None, no_tags),
    no_policy,
    lambda: False,
    lambda _: (),
)


async def test_another_program_that_has_the_group_is_a_problem_until_it_has_gone(
    netns: Callable[[str], Netns], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noted_packets, "AGAIN", 0.05)
    host = netns("noted")
    other = run_in(host.path, Notes)
    denied = Denied(metrics=Metrics(), now=lambda: datetime.now(UTC), elapsed=lambda: 0.0)
    untaken = UntakenTunnels(denied, TriedCalls(elapsed=lambda: 0.0), elapsed=lambda: 0.0)
    packets = NotedPackets(untaken, WHERE, notes=lambda: run_in(host.path, Notes))
    task = asyncio.create_task(packets.run())
    await eventually_async(lambda: len(list(packets.problems())) == 1)
    (problem,) = packets.problems()
    assert "what is refused cannot be heard of" in problem.what
    assert "group 157" in problem.hint
    other.close()
    await eventually_async(lambda: not list(packets.problems()))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
