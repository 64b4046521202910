"""Where the store is, as addresses: containers must not reach it, whatever a policy allows towards the outside.

An endpoint may be a name, whose address changes. One that it had lately counts as well: another member may have it still.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Final

from agent.model.status import Part, Problem

EVERY: Final = 10.0  # seconds between looks
PATIENCE: Final = 3.0  # seconds for one look; a name that is not answered keeps its addresses
KEPT: Final = 3600.0  # seconds for which an address counts after it was last answered

Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""The IPv4 addresses of a name. Raises OSError, TimeoutError or UnicodeError."""


class EndpointAddresses(Part):
    """One per agent. `hosts` are names or addresses; `elapsed` a clock in seconds that never goes back."""

    def __init__(self, hosts: Iterable[str], *, elapsed: Callable[[], float], resolve: Resolve) -> None:
        self._hosts = tuple(dict.fromkeys(hosts))
        self._elapsed = elapsed
        self._resolve = resolve
        self._seen: dict[str, dict[IPv4Address, float]] = {host: {} for host in self._hosts}
        self.all: frozenset[IPv4Address] = frozenset()
        """The same object as long as nothing changed."""

    def problems(self) -> tuple[Problem, ...]:
        """Of which endpoint no address is known."""
        return tuple(
            Problem(
                "store",
                f"the address of etcd's endpoint {host} is not known, so containers are not kept from it",
                f"`getent ahostsv4 {host}` must answer on this host, or name the endpoint by its address",
            )
            for host, seen in self._seen.items()
            if not seen
        )

    async def run(self) -> None:
        """Follow the names for ever. Ends only by cancellation."""
        while self._hosts:
            await asyncio.sleep(EVERY)
            await self.look()
        await asyncio.Event().wait()

    async def look(self) -> None:
        """Once, for PATIENCE at the most."""
        await asyncio.gather(*map(self._look_at, self._hosts))
        found = frozenset(address for seen in self._seen.values() for address in seen)
        self.all = self.all if found == self.all else found

    async def _look_at(self, host: str) -> None:
        with suppress(OSError, TimeoutError, UnicodeError):
            async with asyncio.timeout(PATIENCE):
                found = await self._resolve(host)
            now, seen = self._elapsed(), self._seen[host]
            seen.update((IPv4Address(each), now) for each in found)
            self._seen[host] = {address: at for address, at in seen.items() if now - at <= KEPT}
