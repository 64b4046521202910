"""What the firewall's part reports of containers that open more than one may."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from agent.daemon.firewall import FirewallPart
from agent.loop.loop import Reconciler
from dataplane.firewall.backends.backends import Backend
from dataplane.firewall.flow_limits import OverLimit, over_limit
from dataplane.firewall.foreign import Passage
from dataplane.kernel import Kernel
from dataplane.state import HostState, Workload
from tests.testlib.fakes.kernel import done
from tests.testlib.hosts import EMPTY, FIRST, OVERLAY

AFAR = IPv4Address("10.255.2.9")


class Kernels:
    """Reads no rules of others, and what is over a limit as a test says."""

    def __init__(self) -> None:
        self.limited = OverLimit()

    def observe(self, function: Callable[[], object]) -> "Future[Any]":
        return done(self.limited if function is over_limit else ())


class Loop:
    """One container, web."""

    def applied(self) -> HostState:
        return replace(EMPTY, workloads={FIRST: Workload("web", FIRST, 1, Path("/nowhere"))})


@pytest.fixture
def kernel() -> Kernels:
    return Kernels()


@pytest.fixture
def part(kernel: Kernels) -> FirewallPart:
    edges = {"kernel": cast("Kernel", kernel), "loop": cast("Reconciler", Loop())}
    return FirewallPart(Backend.NFT, **edges, passage=lambda: Passage(OVERLAY))  # type: ignore[arg-type]


async def reported(part: FirewallPart) -> list[str]:
    await part.look()
    return [each.what for each in part.problems()]


async def test_tunnels_that_are_too_many_are_a_problem_that_names_containers_here_and_addresses_elsewhere(
    part: FirewallPart, kernel: Kernels
) -> None:
    assert await reported(part) == []
    kernel.limited = OverLimit(tunnels=frozenset({AFAR, FIRST}))
    assert await reported(part) == [
        "more tunnels of mutual TLS than one container may open: further ones of web, 10.255.2.9 are refused"
    ]
    kernel.limited = OverLimit()
    assert await reported(part) == []


async def test_connections_with_tls_that_are_too_many_are_a_problem_of_their_own(part: FirewallPart, kernel: Kernels) -> None:
    kernel.limited = OverLimit(tls=frozenset({AFAR}))
    assert await reported(part) == [
        "more connections to port 61443 than one container may open: further ones of 10.255.2.9 are refused"
    ]


async def test_flows_that_are_too_many_are_a_problem_of_a_container_of_this_cell(part: FirewallPart, kernel: Kernels) -> None:
    kernel.limited = OverLimit(flows=frozenset({FIRST, AFAR}))
    assert await reported(part) == ["more new flows than one container may open: further ones of web are refused"]


async def test_questions_that_are_too_many_are_a_problem_that_names_containers(part: FirewallPart, kernel: Kernels) -> None:
    kernel.limited = OverLimit(questions=frozenset({FIRST, AFAR}))
    assert await reported(part) == ["more questions for names than one container may ask: further ones of web get no answer"]
    kernel.limited = OverLimit()
    assert await reported(part) == []
