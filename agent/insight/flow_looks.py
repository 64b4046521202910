"""Which flows there are, for those who ask: one look a second at the most, however many ask."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from ipaddress import IPv4Network
from typing import Final

from agent.insight.live_flow import LiveFlow
from agent.insight.named_flows import NamedFlows
from dataplane.flows import flow_table
from dataplane.flows.flow_table import FlowTable

AGAIN: Final = 1.0  # seconds for which a look holds
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
        self, named: NamedFlows, *, overlay: IPv4Network, now: Callable[[], datetime], elapsed: Callable[[], float]
    ) -> None:
        self._named = named
        self._overlay = overlay
        self._now = now
        self._elapsed = elapsed
        self._last: tuple[float, FlowLook] | None = None
        self._lock = asyncio.Lock()

    async def look(self) -> FlowLook:
        """The last one, if it is new enough. Raises HostRefused."""
        async with self._lock:
            if self._last is None or self._elapsed() - self._last[0] >= AGAIN:
                found = await self._look()
                self._last = (self._elapsed(), found)
            return self._last[1]

    async def _look(self) -> FlowLook:
        table, counts, keeps = await asyncio.to_thread(partial(_read, self._overlay))
        await self._named.refresh()
        flows: list[LiveFlow] = []
        for number, each in enumerate(table.flows, start=1):
            flow = await self._named.named(each)
            if flow is not None:
                flows.append(flow)
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        flows.sort(key=lambda flow: (flow.source, flow.to, flow.protocol, flow.port, flow.id))
        return FlowLook(self._now().replace(microsecond=0), tuple(flows), table.whole, counts, keeps)


def _read(overlay: IPv4Network) -> tuple[FlowTable, bool, bool]:
    return (
        flow_table.look(within=overlay),
        bool(flow_table.setting("acct")),
        bool(flow_table.setting("timestamp")),
    )
