"""Waiting until the kernel is as the store and the files say, and Envoy goes by it."""

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
        """The same, however long problems last, and however long Envoy takes.

        One that has yet to find an agent that has just begun goes by what the agent before gave it.
        """
        report = await self._loop.settle()
        while report.problem is not None or self._loop.mass_loss.problem is not None or self._late:
            await asyncio.sleep(PAUSE)
            report = await self._loop.settle()

    @property
    def obstacle(self) -> str:
        """What keeps it, as far as is known."""
        problem = self._loop.reports.last.problem
        if problem is not None:
            return problem.what
        return self._late or "the loop is still at work"

    @property
    def _late(self) -> str:
        """With which containers' rights Envoy is, in words; empty with none."""
        return ", ".join(each.what for each in self._loop.late_rights.problems())
