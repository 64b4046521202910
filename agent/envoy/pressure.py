"""How near Envoy is to what it may take, by its own counters, and how many refusals it could not report."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from agent.errors import Unavailable
from agent.model.status import Part, Problem
from dataplane.envoy.process.overload import CALLERS, HEAP, REFUSE, SHRINK

EVERY = 0.5  # seconds
CROWDED: Final = 90  # percent
LOST: Final = "access_logs.grpc_access_log.logs_dropped"
COUNTERS: Final = (LOST, *(f"overload.{monitor}.pressure" for monitor in (CALLERS, HEAP)))


class Pressure(Part):
    """`ask` blocks and gives `COUNTERS`, or raises Unavailable."""

    def __init__(self, ask: Callable[[], Mapping[str, int]], *, connected: Callable[[], bool]) -> None:
        self._ask = ask
        self._connected = connected
        self._counters: Mapping[str, int] = {}

    def problems(self) -> Iterator[Problem]:
        """That little is left."""
        heap, callers = self.heap(), self._percent(CALLERS)
        if heap >= SHRINK * 100:
            what = f"Envoy takes {heap} % of the memory that it may: the streams that hold most are ended"
            yield Problem("envoy", what, f"from {REFUSE:.0%} on it refuses new connections; see which containers call most")
        if callers >= CROWDED:
            what = f"Envoy serves {callers} % of the connections that it may"
            yield Problem("envoy", what, "the rest is refused; raise its limit of open files (LimitNOFILE, ulimit -Hn)")

    def lost(self) -> int:
        """Refusals that Envoy could not report since its start."""
        return self._counters.get(LOST, 0)

    def heap(self) -> int:
        """How full it is, in percent."""
        return self._percent(HEAP)

    def _percent(self, monitor: str) -> int:
        return self._counters.get(f"overload.{monitor}.pressure", 0)

    async def run(self) -> None:
        """Ask for ever. Ends only by cancellation."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Ask once. What does not answer is reported elsewhere."""
        try:
            self._counters = await asyncio.to_thread(self._ask) if self._connected() else {}
        except Unavailable:
            self._counters = {}
