"""What the agent reports of containers that come to their own limits."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from agent.daemon.container_limits import ContainerLimits, LimitedRow
from agent.errors import HostRefused
from agent.loop.loop import Reconciler
from dataplane.kernel import Kernel
from dataplane.sets.limit_hits import LimitHits
from dataplane.state import NO_LIMITS, HostState, Limits, Workload
from tests.testlib.fakes.kernel import done
from tests.testlib.hosts import EMPTY, FIRST

GONE = IPv4Address("10.255.1.9")


class Kernels:
    """Has counted what a test says."""

    def __init__(self) -> None:
        self.hits: dict[IPv4Address, LimitHits] = {}
        self.answer: Future[Any] | None = None
        self.looks = 0

    def observe(self, _function: Callable[[], object]) -> "Future[Any]":
        self.looks += 1
        return self.answer or done(self.hits)


class Loop:
    """One container, web."""

    def __init__(self) -> None:
        self.limits = Limits(new=5)

    def applied(self) -> HostState:
        return replace(EMPTY, workloads={FIRST: Workload("web", FIRST, 1, Path("/nowhere"), limits=self.limits)})


@pytest.fixture
def kernel() -> Kernels:
    return Kernels()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def part(kernel: Kernels, loop: Loop) -> ContainerLimits:
    return ContainerLimits(cast("Kernel", kernel), loop=cast("Reconciler", loop))


async def test_a_container_that_comes_to_a_limit_is_named_with_how_often_and_is_no_problem(
    part: ContainerLimits, kernel: Kernels
) -> None:
    kernel.hits = {FIRST: LimitHits(new=3, sent=7), GONE: LimitHits(connections=1)}
    await part.look()
    assert await part.rows() == {"limited": [LimitedRow("web", 3, 0, 0, 7)]}
    assert part.by_limit() == {("web", "new"): 3, ("web", "sent"): 7}
    assert list(part.problems()) == []


async def test_where_no_container_has_a_limit_the_kernel_is_not_asked(
    part: ContainerLimits, kernel: Kernels, loop: Loop
) -> None:
    kernel.hits = {FIRST: LimitHits(new=3)}
    await part.look()
    loop.limits = NO_LIMITS
    await part.look()
    assert kernel.looks == 1
    assert await part.rows() == {"limited": []}


async def test_counts_stay_as_they_were_where_the_kernel_does_not_tell(part: ContainerLimits, kernel: Kernels) -> None:
    kernel.hits = {FIRST: LimitHits(new=3)}
    await part.look()
    refused: Future[Any] = Future()
    refused.set_exception(HostRefused("no", hint=""))
    kernel.answer = refused
    await part.look()
    assert part.by_limit() == {("web", "new"): 3}
