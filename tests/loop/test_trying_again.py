"""A container that could not be put in place is tried again at every look, though nothing else happens."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from agent.loop.loop import Effects, Reconciler
from agent.metrics import Metrics
from tests.testlib.moody_kernel import FACTS, MoodyKernel, Silence, empty


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.005)


async def test_every_look_tries_a_failed_container_again_until_it_is_in_place() -> None:
    kernel, silence = MoodyKernel(), Silence()
    edges: Any = {"kernel": kernel, "monitor": silence, "ads": silence, "metrics": Metrics()}
    loop = Reconciler(empty, facts=FACTS, effects=Effects(**edges, elapsed=time.monotonic))
    running = asyncio.create_task(loop.run())
    try:
        assert (await loop.settle()).failures
        await asyncio.sleep(0.2)  # the second look for flows is over
        tries = kernel.applied
        assert await loop.look()
        await until(lambda: kernel.applied > tries)
        kernel.failures = {}
        await loop.look()
        await until(lambda: not loop.last.failures)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
