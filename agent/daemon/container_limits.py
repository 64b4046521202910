"""Which containers come to the limits that they were attached with, and how often: asked of the kernel beside the loop."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from agent import log
from agent.complaint import Complaints
from agent.errors import HostRefused
from agent.loop.loop import Reconciler
from agent.model.status import Part
from agent.wording import listed
from dataplane.kernel import Kernel
from dataplane.sets.limit_hits import LimitHits, limit_hits
from dataplane.state import NO_LIMITS

WORDS = {
    "new": "connections to outside refused that were too many in a second",
    "connections": "refused that were too many at once",
    "received": "packets to it dropped",
    "sent": "packets from it dropped",
}
PERIOD = 2.0  # seconds between two looks


@dataclass(frozen=True, slots=True)
class LimitedRow:
    """A container, and since it was attached: its connections to outside that were refused, as new ones in a second and as open
    ones too many, and packets that were dropped on their way to it and from it."""

    name: str
    new: int
    connections: int
    received: int
    sent: int


class ContainerLimits(Part):
    """`loop` knows the containers."""

    def __init__(self, kernel: Kernel, *, loop: Reconciler) -> None:
        self._kernel = kernel
        self._loop = loop
        self._hits: Mapping[IPv4Address, LimitHits] = {}
        self._looks = Complaints(log.get("limits"), failed="cannot_count_limits")

    async def rows(self) -> Mapping[str, object]:
        """`limited`: those that have come to a limit."""
        return {"limited": [LimitedRow(name, *hits) for name, hits in sorted(self._named().items())]}

    def by_limit(self) -> dict[tuple[str, str], int]:
        """How often, by name and what is limited; of those that have come to it."""
        return {
            (name, limit): count for name, hits in self._named().items() for limit, count in hits._asdict().items() if count
        }

    def in_words(self) -> dict[str, str]:
        """By name, what was refused of it or dropped."""
        return {
            name: listed([f"{count} {WORDS[limit]}" for limit, count in hits._asdict().items() if count], most=4)
            for name, hits in self._named().items()
        }

    def _named(self) -> dict[str, LimitHits]:
        state = self._loop.applied()
        known = {} if state is None else state.workloads
        return {known[address].name: hits for address, hits in self._hits.items() if address in known}

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD)

    async def look(self) -> None:
        """Once. Where no container has a limit nothing is asked."""
        state = self._loop.applied()
        if state is None or all(each.limits == NO_LIMITS for each in state.workloads.values()):
            self._hits = {}
            return
        try:
            self._hits = await asyncio.wrap_future(self._kernel.observe(limit_hits))
            self._looks.over()
        except HostRefused as error:
            self._looks.about(error)
