"""Which flows there are, for those who ask: one look a second at the most, however many ask."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.insight.flows.live_flow import LiveFlow
from agent.insight.flows.named import FlowPlace, NamedFlows
from agent.reader_threads import in_reader_thread
from dataplane.flows import flow_table, tunnel_table
from dataplane.flows.flow_table import FlowTable
from dataplane.flows.tunnel_table import StreamTable

AGAIN: Final = 1.0  # seconds for which a look holds at least,
SHARE: Final = 3  # and so many times as long as it took: looks take a quarter of the time at most
STRETCH: Final = 200  # flows that are named before other tasks have their turn


@dataclass(frozen=True, slots=True)
class FlowLook:
    """What was there at a moment (UTC). `whole` is false where there were more than a look reads."""

    at: datetime
    flows: tuple[LiveFlow, ...]
    whole: bool
    counts_octets: bool
    keeps_time: bool


class FlowLooks:
    """One per agent. `now` is UTC, `elapsed` in seconds and never jumps."""

    def __init__(
        self, named: NamedFlows, place: FlowPlace, *, now: Callable[[], datetime], elapsed: Callable[[], float]
    ) -> None:
        self._named = named
        self._place = place
        self._now = now
        self._elapsed = elapsed
        self._last: tuple[float, FlowLook] | None = None
        self._rested = 0.0  # when even a new one may be taken
        self._lock = asyncio.Lock()

    async def look(self, *, new: bool = False) -> FlowLook:
        """The last one, if it is new enough and no `new` one is asked for; that comes once the last has its rest. Raises
        HostRefused.
        """
        async with self._lock:
            if new:
                await asyncio.sleep(self._rested - self._elapsed())  # a follower may come and go again and again
            began = self._elapsed()
            if new or self._last is None or began >= self._last[0]:
                found = await self._look()
                ended = self._elapsed()
                self._rested = ended + SHARE * (ended - began)
                self._last = (max(ended + AGAIN, self._rested), found)
            return self._last[1]

    async def _look(self) -> FlowLook:
        seen = await in_reader_thread(lambda: _see(self._place))
        await self._named.refresh()
        flows: list[LiveFlow] = []
        for number, flow in enumerate(seen.table.flows, start=1):
            flows += filter(None, [await self._named.named(flow)])
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        for number, (flow, ends) in enumerate(seen.streams.streams, start=1):
            flows.append(await self._named.stream(flow, ends))
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        flows.sort(key=lambda flow: (flow.source, flow.to, flow.protocol, flow.port, flow.id))
        is_whole = seen.table.whole and seen.streams.whole
        return FlowLook(self._now().replace(microsecond=0), tuple(flows), is_whole, seen.counts_octets, seen.keeps_time)


@dataclass(frozen=True, slots=True)
class _SeenFlows:
    table: FlowTable
    streams: StreamTable
    counts_octets: bool
    keeps_time: bool


def _see(place: FlowPlace) -> _SeenFlows:
    table, state = flow_table.look(within=place.overlay), place.state()
    tunnels = [each.flow for each in table.flows if tunnel_table.is_tunnel(each.flow)]
    workloads = () if state is None else tuple(state.workloads.values())
    streams = tunnel_table.look(tunnels, workloads, within=place.overlay, subnet=place.subnet)
    return _SeenFlows(table, streams, bool(flow_table.setting("acct")), bool(flow_table.setting("timestamp")))
