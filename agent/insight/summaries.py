"""One view of all cells: each publishes a summary of its last minute, and who looks reads all of them.

Nothing follows them: a cell writes its own once a minute, where it has changed, and none reads before it is asked.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from agent.errors import RAISED
from agent.insight.cell_summary import CellSummary
from agent.insight.flows.live_flow import CLOSED
from agent.insight.flows.looks import FlowLooks
from agent.insight.refusals.app_pairs import AppPairs
from agent.insight.refusals.denied import Denied
from agent.model.status import Part
from agent.store.protocols import SummaryStore

FIRST: Final = 2.0  # seconds after the start
EVERY: Final = 60.0
HOLDS: Final = 10.0  # seconds for which a reading of all cells' is given again
STRETCH: Final = 20  # that are understood before other tasks have their turn


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """When this cell's summary was published last (UTC), and why it is not since then, empty where it is."""

    at: datetime | None
    problem: str


@dataclass(frozen=True, slots=True)
class AllSummaries:
    """By cell. `senseless` are those that cannot be believed, with the reason."""

    summaries: Mapping[str, CellSummary]
    senseless: Mapping[str, str]


class Summaries(Part):
    """One per agent. `now` is UTC, `elapsed` in seconds and never jumps. `beside` is what else looks at flows once a minute."""

    def __init__(
        self,
        store: SummaryStore,
        looks: FlowLooks,
        denied: Denied,
        *,
        now: Callable[[], datetime],
        elapsed: Callable[[], float],
        every: float = EVERY,
        beside: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._looks = looks
        self._denied = denied
        self._now = now
        self._elapsed = elapsed
        self._every = every
        self._beside = beside
        self._last: CellSummary | None = None
        self._row = SummaryRow(None, "")
        self._read: tuple[float, AllSummaries] | None = None
        self._reading = asyncio.Lock()

    async def rows(self) -> Mapping[str, object]:
        """`summary`."""
        return {"summary": self._row}

    def flows(self) -> Mapping[tuple[str, str], int]:
        """Open connections and other flows of this cell by apps, as they were at its last look; the most of them first."""
        labels, found = AppPairs(), Counter[tuple[str, str]]()
        for pair, count in () if self._last is None else self._last.flows:
            found[labels.label(pair.source, pair.to)] += count
        return found

    async def run(self) -> None:
        """Publish this cell's. Runs until cancelled."""
        await asyncio.sleep(min(FIRST, self._every))
        while True:
            try:
                await self._beside()
                await self._publish()
            except RAISED as error:
                self._row = replace(self._row, problem=error.what)
            await asyncio.sleep(self._every)

    async def all(self) -> AllSummaries:
        """Of all cells, this one's included, as they were in the last ten seconds. Raises Unavailable, HostRefused."""
        async with self._reading:
            if self._read is None or not 0 <= self._elapsed() - self._read[0] < HOLDS:
                found = await _understood(await self._store.summaries())
                self._read = (self._elapsed(), found)
            return self._read[1]

    async def _publish(self) -> None:
        look = await self._looks.look()
        at = self._now().replace(microsecond=0)
        found = CellSummary.of(at, (each for each in look.flows if each.state != CLOSED), self._denied.last_minute())
        if self._last is not None and replace(found, at=self._last.at) == self._last:
            found = self._last
        await self._store.publish_summary(found.data())
        self._last, self._row = found, SummaryRow(at, "")


async def _understood(written: Mapping[str, bytes]) -> AllSummaries:
    summaries: dict[str, CellSummary] = {}
    senseless: dict[str, str] = {}
    for number, (cell, data) in enumerate(sorted(written.items()), start=1):
        try:
            summaries[cell] = CellSummary.parse(data)
        except ValueError as error:
            senseless[cell] = str(error)
        if number % STRETCH == 0:
            await asyncio.sleep(0)
    return AllSummaries(summaries, senseless)
