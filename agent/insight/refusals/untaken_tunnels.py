"""Calls whose tunnel was not taken, as it is where no policy is between two apps: told with the port that was called.

The kernel, which refuses such a tunnel at the destination, does not see that port; Envoy at the caller's end knows it. So on
the caller's cell its report counts, and the kernel's note of the same tunnel is left out.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address
from typing import Final

from agent.insight.refusals.denied import Denied, Pair, Reason
from agent.insight.refusals.tried_calls import TriedCalls, TriedWay
from agent.model.names import AppName
from agent.model.policy import Policy, Protocol
from dataplane.envoy.refusal import Check, Refusal

WAITING: Final = 1_024  # that are not told yet
KNOWN: Final = 4_096  # pairs of addresses whose last report is remembered
LASTS: Final = 3.0  # seconds for which it stands for the kernel's note, too

PolicyCheck = Callable[[AppName, AppName, Protocol, int], Awaitable[Policy | None]]
AppAt = Callable[[IPv4Address], AppName | None]


class UntakenTunnels:
    """`elapsed` is in seconds and never jumps."""

    def __init__(self, denied: Denied, tried: TriedCalls, *, elapsed: Callable[[], float]) -> None:
        self.denied = denied
        self.tried = tried
        self._elapsed = elapsed
        self._waiting = asyncio.Queue[Refusal](WAITING)
        self._reported: OrderedDict[tuple[IPv4Address, IPv4Address], float] = OrderedDict()

    def take(self, refusals: Iterable[Refusal]) -> None:
        """Those among what Envoy reports. What comes faster than it is told is counted as not heard of."""
        for each in refusals:
            if each.check is not Check.TUNNEL:
                continue
            self._remember(each)
            try:
                self._waiting.put_nowait(each)
            except asyncio.QueueFull:
                self.denied.lost += 1

    def is_reported(self, source: IPv4Address, to: IPv4Address) -> bool:
        """Whether Envoy has reported a call from one to the other a moment ago."""
        at = self._reported.get((source, to))
        return at is not None and self._elapsed() - at <= LASTS

    async def run(self, check: PolicyCheck, app_at: AppAt) -> None:
        """Tell. Runs until cancelled."""
        while True:
            await self._tell(await self._waiting.get(), check, app_at)

    async def _tell(self, call: Refusal, check: PolicyCheck, app_at: AppAt) -> None:
        source, to = app_at(call.source), app_at(call.destination)
        if to is None:
            reason, words = Reason.NOBODY, ""
        elif source is None or await check(source, to, Protocol.TCP, call.port) is None:
            reason, words = Reason.POLICY, ""
        else:
            reason, words = Reason.TUNNEL, f"{call.check}: {call.words}"
        pair = Pair(str(source or call.source), str(to or call.destination), "tcp", call.port, reason)
        tried = self.tried.take(TriedWay(call.source, call.destination, call.port))
        self.denied.add(pair, source_address=str(call.source), to_address=str(call.destination), words=words, tried=tried)

    def _remember(self, call: Refusal) -> None:
        ends = (call.source, call.destination)
        self._reported[ends] = self._elapsed()
        self._reported.move_to_end(ends)
        if len(self._reported) > KNOWN:
            self._reported.popitem(last=False)
