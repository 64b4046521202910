"""What is never outside, so that no right of an app to the outside leads there: the overlay, the cells, the store, the name
servers, and what no host has.

The dataplane goes by it whatever policies say, and `policy check` gives the reason.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from agent.model.outside import NEVER, Inside, united

EVERY: Final = 1.0  # seconds between looks at what no event reports

Addresses = Callable[[], AbstractSet[IPv4Address]]


class NeverOutside:
    """One per agent. `store` and `servers` say which addresses etcd and the name servers have now."""

    def __init__(self, inside: Inside, *, store: Addresses, servers: Addresses) -> None:
        self._inside = inside
        self._now_of_store, self._now_of_servers = store, servers
        self._store, self._servers = frozenset(store()), frozenset(servers())
        self._cells_of: tuple[Mapping[IPv4Network, IPv4Address], IPv4Address | None] = {}, None
        self._cells: frozenset[IPv4Address] = frozenset()
        self._made_of: tuple[frozenset[IPv4Address], ...] | None = None
        self._networks: tuple[IPv4Network, ...] = ()

    def networks(self, peers: Mapping[IPv4Network, IPv4Address], *, own: IPv4Address | None) -> tuple[IPv4Network, ...]:
        """All of it, ascending and apart; the same object as long as nothing changed. `own` is this cell's own address."""
        if self._cells_of[0] is not peers or self._cells_of[1] != own:
            self._cells_of = peers, own
            self._cells = frozenset(peers.values()).union([] if own is None else [own])
        parts = self._cells, self._store, self._servers
        if self._made_of != parts:
            single = (IPv4Network(address) for part in parts for address in part)
            found = united((self._ranges(), single))
            self._made_of, self._networks = parts, self._networks if found == self._networks else found
        return self._networks

    def why(self, address: IPv4Address) -> str:
        """Why an address is never outside, empty where it may be."""
        reasons = (
            (self._cells, "a cell has it; `host_services` in agent.yaml opens ports of this one"),
            (self._store, "the store has it"),
            (self._servers, "it is a name server of this cell's; containers ask its resolver"),
        )
        return next((why for those, why in reasons if address in those), "") or self._inside.why(IPv4Network(address))

    async def run(self, on_change: Callable[[], None]) -> None:
        """Follow the store's addresses and the name servers for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(EVERY)
            if self.look():
                on_change()

    def look(self) -> bool:
        """Once; True if they are others."""
        before = self._store, self._servers
        self._store, self._servers = frozenset(self._now_of_store()), frozenset(self._now_of_servers())
        return before != (self._store, self._servers)

    def _ranges(self) -> Iterable[IPv4Network]:
        overlay = self._inside.overlay
        return NEVER if overlay is None else (*NEVER, overlay)
