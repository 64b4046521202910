"""A container that could not be put in place is tried again at every look, though nothing else happens."""

import asyncio
import time
from concurrent.futures import Future
from typing import Any

from agent.daemon.clock import Clock
from agent.errors import HostRefused
from agent.loop.loop import Effects, Reconciler
from agent.loop.snapshot import Snapshot
from agent.metrics import Metrics
from dataplane.tables import Tables
from tests.testlib.beside import beside
from tests.testlib.fakes.kernel import FACTS, NO_NAMES, FakeKernel, SilentEdge, empty_snapshot
from tests.testlib.patience import eventually_async


async def test_every_look_tries_a_failed_container_again_until_it_is_in_place() -> None:
    kernel, silence = FakeKernel(), SilentEdge()
    edges: Any = {"kernel": kernel, "monitor": silence, "ads": silence, "metrics": Metrics(), "names": NO_NAMES}
    loop = Reconciler(empty_snapshot, facts=FACTS, effects=Effects(**edges, elapsed=time.monotonic, called=Clock().called))
    async with beside(loop.run()):
        assert (await loop.settle()).failures
        await asyncio.sleep(0.2)  # the second look for flows is over
        tries = kernel.applied
        assert await loop.look()
        await eventually_async(lambda: kernel.applied > tries)
        kernel.failures = {}
        await loop.look()
        await eventually_async(lambda: not loop.reports.last.failures)


async def test_an_unexpected_error_in_a_turn_is_reported_and_the_next_turn_comes() -> None:
    kernel, silence = FakeKernel(), SilentEdge()
    kernel.failures = {}
    snapshots = iter([KeyError("a library's own"), ValueError("another's")])

    async def snapshot() -> Snapshot:
        error = next(snapshots, None)
        if error is not None:
            raise error
        return await empty_snapshot()

    edges: Any = {"kernel": kernel, "monitor": silence, "ads": silence, "metrics": Metrics(), "names": NO_NAMES}
    loop = Reconciler(snapshot, facts=FACTS, effects=Effects(**edges, elapsed=time.monotonic, called=Clock().called))
    async with beside(loop.run()):
        first = (await loop.settle()).problem
        assert isinstance(first, HostRefused)
        assert "KeyError" in first.what
        await eventually_async(lambda: loop.reports.last.problem is None)


async def test_a_look_reads_again_what_a_turn_takes_as_known() -> None:
    """Root in a container may have removed its redirect; a turn must not wait for all namespaces."""

    class Reader(FakeKernel):
        again: list[object]

        def read(self, _desired: Tables, **_options: object) -> "Future[Tables]":
            self.again.append(_options["again"])
            return super().read(_desired)

    kernel, silence = Reader(), SilentEdge()
    kernel.again, kernel.failures = [], {}
    edges: Any = {"kernel": kernel, "monitor": silence, "ads": silence, "metrics": Metrics(), "names": NO_NAMES}
    loop = Reconciler(empty_snapshot, facts=FACTS, effects=Effects(**edges, elapsed=time.monotonic, called=Clock().called))
    async with beside(loop.run()):
        await loop.settle()
        await eventually_async(loop.at_rest.is_set)
        assert await loop.look()
        assert kernel.again == [False, True]
