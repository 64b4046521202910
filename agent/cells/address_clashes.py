"""What else on this host has addresses of ours, the overlay's or the resolver's: on a fresh cell a reason not to start, later a
problem to report.

A less specific route (a VPN's 0.0.0.0/1, a site's 10.0.0.0/8) is no clash: the routes to containers and cells are narrower.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network

from agent.errors import Conflict, HostRefused
from agent.model.status import Part, Problem
from agent.wording import listed
from dataplane.netlink.underlay import Clash

PERIOD = 10.0  # seconds


class AddressClashes(Part):
    """`read` asks the kernel for what is inside the overlay, and for what has the resolver's address."""

    def __init__(self, read: Callable[[], Awaitable[Sequence[Clash]]], *, overlay: IPv4Network, resolver: IPv4Address) -> None:
        self._read = read
        self._overlay = overlay
        self._resolver = resolver
        self._inside: Sequence[Clash] = ()
        self._same: Sequence[Clash] = ()

    def problems(self) -> Iterator[Problem]:
        """All of them, in one of each kind."""
        if self._inside:
            hint = "remove it from the host, or move the overlay (overlay.network) when the cell is empty"
            yield Problem("overlay", self._inside_words(), hint)
        if self._same:
            yield Problem("dns", self._same_words(), "remove it from the host, or choose another dns.address in agent.yaml")

    async def look(self) -> None:
        """Raises HostRefused where the kernel cannot be asked."""
        found = await self._read()
        self._inside = [each for each in found if each.network.subnet_of(self._overlay)]
        self._same = [each for each in found if each.network == IPv4Network(self._resolver)]

    def refuse(self) -> None:
        """For a cell that has no containers yet: raise Conflict if there is any."""
        if self._inside:
            raise Conflict(self._inside_words(), hint="choose another overlay.network in agent.yaml, the same on every cell")
        if self._same:
            raise Conflict(self._same_words(), hint="remove it, or choose another dns.address in agent.yaml")

    async def run(self) -> None:
        """Look for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.look()
            except HostRefused:  # the loop meets the same, and reports it
                continue

    def _inside_words(self) -> str:
        found = listed([each.what for each in self._inside])
        return f"the overlay network {self._overlay} overlaps what this host uses: {found}"

    def _same_words(self) -> str:
        found = listed([each.what for each in self._same])
        return f"the resolver's address {self._resolver} is another program's on this host: {found}"
