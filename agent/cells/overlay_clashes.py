"""What else on this host has addresses of the overlay: on a fresh cell a reason not to start, later a problem to report.

A less specific route (a VPN's 0.0.0.0/1, a site's 10.0.0.0/8) is no clash: the routes to containers and cells are narrower.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import IPv4Network

from agent.errors import Conflict, HostRefused
from agent.model.status import Part, Problem
from agent.wording import listed
from dataplane.netlink.underlay import Clash

PERIOD = 10.0  # seconds


class OverlayClashes(Part):
    """`read` asks the kernel."""

    def __init__(self, read: Callable[[], Awaitable[Sequence[Clash]]], *, overlay: IPv4Network) -> None:
        self._read = read
        self._overlay = overlay
        self._found: Sequence[Clash] = ()

    def problems(self) -> Iterator[Problem]:
        """All of them, in one."""
        if self._found:
            yield Problem(
                "overlay", self._what(), "remove it from the host, or move the overlay (overlay.network) when the cell is empty"
            )

    async def look(self) -> None:
        """Raises HostRefused where the kernel cannot be asked."""
        self._found = await self._read()

    def refuse(self) -> None:
        """For a cell that has no containers yet: raise Conflict if there is any."""
        if self._found:
            raise Conflict(self._what(), hint="choose another overlay.network in agent.yaml, the same on every cell")

    async def run(self) -> None:
        """Look for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.look()
            except HostRefused:  # the loop meets the same, and reports it
                continue

    def _what(self) -> str:
        return (
            f"the overlay network {self._overlay} overlaps what this host uses: {listed([each.what for each in self._found])}"
        )
