"""Which live connections of this cell a change of policies would cut: judged as the change itself would judge them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent.loop.cut_lines import cut_lines
from agent.model.names import AppName
from agent.model.policy import Policy
from agent.policy.rights.outside import OutsideResolver
from agent.policy.rights.resolve import PolicyResolver
from agent.reader_threads import in_reader_thread
from dataplane.flows.cut import Receipt
from dataplane.flows.streams import counted
from dataplane.flows.tunnel_table import is_tunnel
from dataplane.kernel import Kernel
from dataplane.state import HostState, Workload

EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class ForeseenCuts:
    """So many connections, and in words those between a few pairs, the most first. What ends at so many `other_cells` is not
    seen.
    """

    count: int = 0
    lines: tuple[str, ...] = ()
    other_cells: int = 0


class CutForecast:
    """`applied` is what is true of the kernel, None before the first turn."""

    def __init__(
        self,
        kernel: Kernel,
        *,
        applied: Callable[[], HostState | None],
        tags: Callable[[], Awaitable[Mapping[AppName, int]]],
    ) -> None:
        self._kernel = kernel
        self._applied = applied
        self._tags = tags
        self._lock = asyncio.Lock()  # a look reads all of conntrack's table: one at a time

    async def of(self, policies: tuple[Policy, ...]) -> ForeseenCuts:
        """Of what would be cut if these were in force. Raises HostRefused."""
        async with self._lock:
            now, tags = self._applied(), await self._tags()
            if now is None:
                return ForeseenCuts()
            then = await in_reader_thread(lambda: under(policies, now, tags))
            found = await asyncio.wrap_future(self._kernel.foresee(now, then))
            # a tunnel that ends is no app's connection: the streams in it are
            flows = tuple(each for each in found.flows if not (is_tunnel(each) and each.reply_source in now.overlay))
            receipt = Receipt(flows, 0, 0, 0.0, 0.0, streams=counted(found.streams))
            return ForeseenCuts(receipt.count, cut_lines(receipt, now, tags)[:EXAMPLES], len(now.peers))


def under(policies: tuple[Policy, ...], now: HostState, tags: Mapping[AppName, int]) -> HostState:
    """The same cell under other policies. Pure."""
    apps, rights, outside = {tag: app for app, tag in tags.items()}, PolicyResolver(), OutsideResolver()
    rights.update(policies, tags)
    outside.follow(policies)

    def judged(each: Workload) -> Workload:
        app = apps.get(each.tag)
        if app is None:
            return each
        ways = outside.rights(app)
        return replace(each, allows=rights.allows(app), egress=ways.egress, ingress=ways.ingress)

    workloads = {address: judged(each) for address, each in now.workloads.items()}
    return replace(now, workloads=workloads, groups={**now.groups, **rights.groups()})
