"""When the loop takes a turn, and which callers wait for its report."""

import asyncio
from dataclasses import dataclass

from agent.loop.reports import TurnReport
from agent.pacing import wait_for_event


@dataclass(frozen=True, slots=True)
class Waiters:
    """Callers that wait for the report of one turn."""

    futures: list[asyncio.Future[TurnReport]]

    def end(self, report: TurnReport) -> None:
        """Resolve the waiters; cancelled ones are skipped."""
        for future in self.futures:
            if not future.done():
                future.set_result(report)


class Turns:
    """Kicks coalesced into turns."""

    def __init__(self) -> None:
        self._kicked = asyncio.Event()
        self._futures: list[asyncio.Future[TurnReport]] = []

    def kick(self) -> None:
        """Ask for a turn."""
        self._kicked.set()

    async def next(self) -> TurnReport:
        """Ask for a turn and wait for its report; one that is under way does not count."""
        future: asyncio.Future[TurnReport] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        self.kick()
        return await future

    async def begin(self, *, within: float | None) -> Waiters:
        """Wait for a kick, `within` seconds at most (None: for ever); from here on kicks count for the turn after."""
        await wait_for_event(self._kicked, within=within)
        self._kicked.clear()
        waiters, self._futures = Waiters(self._futures), []
        return waiters
