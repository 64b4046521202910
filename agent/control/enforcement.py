"""Waiting until the kernel is as the store and the files say."""

import asyncio

from agent.loop.loop import Reconciler

PAUSE = 0.1  # seconds between two looks whether what is asked for is in force


class Enforcement:
    """While the loop puts a mass loss off, a turn without a problem is not the end: it is over in a moment, either way."""

    def __init__(self, loop: Reconciler) -> None:
        self._loop = loop

    async def next(self) -> None:
        """Return when what was changed before this call is in force. Raises why it is not."""
        problem = (await self._loop.settle()).problem
        while problem is None and self._loop.mass_loss.problem is not None:
            await asyncio.sleep(PAUSE)
            problem = (await self._loop.settle()).problem
        if problem is not None:
            raise problem

    async def at_last(self) -> None:
        """The same, however long problems last."""
        report = await self._loop.settle()
        while report.problem is not None or self._loop.mass_loss.problem is not None:
            report = await self._loop.settle()
            await asyncio.sleep(PAUSE)

    @property
    def obstacle(self) -> str:
        """What keeps it, as far as is known."""
        problem = self._loop.reports.last.problem
        return "the loop is still at work" if problem is None else problem.what
