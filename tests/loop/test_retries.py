"""A container that could not be put in place is tried again at every look, though nothing else happens."""

import asyncio
import contextlib
import time
from typing import Any

from agent.daemon.clock import Clock
from agent.loop.loop import Effects, Reconciler
from agent.metrics import Metrics
from tests.testlib.fake_kernel import FACTS, FakeKernel, SilentEdge, empty_snapshot
from tests.testlib.patience import eventually_async


async def test_every_look_tries_a_failed_container_again_until_it_is_in_place() -> None:
    kernel, silence = FakeKernel(), SilentEdge()
    edges: Any = {"kernel": kernel, "monitor": silence, "ads": silence, "metrics": Metrics()}
    loop = Reconciler(empty_snapshot, facts=FACTS, effects=Effects(**edges, elapsed=time.monotonic, called=Clock().called))
    running = asyncio.create_task(loop.run())
    try:
        assert (await loop.settle()).failures
        await asyncio.sleep(0.2)  # the second look for flows is over
        tries = kernel.applied
        assert await loop.look()
        await eventually_async(lambda: kernel.applied > tries)
        kernel.failures = {}
        await loop.look()
        await eventually_async(lambda: not loop.last.failures)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
