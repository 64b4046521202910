"""Keeps up what this cell has claimed: numbers of its instances, and claims to names that were deleted. Beside all else."""

import asyncio
from collections.abc import Callable, Iterable

from agent import log
from agent.complaint import Complaints
from agent.errors import RAISED
from agent.pacing import Backoff, wait_for_event
from agent.store.etcd.commits import Commits
from agent.store.etcd.transactions import Plan

LOOK = 30.0  # seconds between looks without a reason: claims of others lapse


class OwnClaims:
    """One per store. `plans` are what is to be written, asked anew at each look; `pause`: seconds before what failed is."""

    def __init__(self, commits: Commits, plans: Callable[[], Iterable[Plan]], *, pause: float) -> None:
        self._commits = commits
        self._plans = plans
        self._pause = pause
        self._wanted = asyncio.Event()
        self._complaints = Complaints(log.get("store"), failed="claims_not_written", recovered="claims_written_again")

    def wake(self) -> None:
        """Have `run` look soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Write what differs, for ever."""
        pauses = Backoff(first=self._pause, longest=LOOK)
        while True:
            await wait_for_event(self._wanted, within=LOOK)
            self._wanted.clear()
            await asyncio.sleep(self._pause / 10)  # no storm where another machine writes the same
            try:
                done = self._commits.mirror.problem is not None or await self.write()
            except RAISED as error:
                self._complaints.about(error)
                done = False
            else:
                self._complaints.over()
            if done:
                pauses.reset()
            else:
                await asyncio.sleep(pauses.next())
                self._wanted.set()

    async def write(self) -> bool:
        """Everything once, each by itself, as another cell may be quicker at one. Whether all of it was."""
        plans = list(self._plans())
        done = [await self._commits.commit_all([each]) for each in plans]
        return all(done)
