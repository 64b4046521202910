"""The other cells as this one sees them: their part of the overlay and where it is reached."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from agent.model.cell import Cell
from agent.store.protocols import CellStore

Routes = Mapping[IPv4Network, IPv4Address]


class Peers:
    """Reads the store's records. The same object as long as nothing changed."""

    def __init__(self, store: CellStore, *, name: str, overlay: IPv4Network, subnet: IPv4Network) -> None:
        self._store = store
        self._name = name
        self._overlay = overlay
        self._subnet = subnet
        self._cells: tuple[Cell, ...] = ()
        self._routes: Routes = {}
        self._by_subnet: Mapping[IPv4Network, Cell] = {}
        self._lengths: frozenset[int] = frozenset()  # one, as a rule
        self.all: tuple[Cell, ...] = ()
        self.without_tunnels: frozenset[IPv4Network] = frozenset()
        """The parts of those that say of themselves that they take none, alive or not: they may be up and only out of touch."""

    def owner(self, address: IPv4Address) -> Cell | None:
        """The other cell that an address belongs to, whatever the size of its part."""
        for length in self._lengths:
            found = self._by_subnet.get(IPv4Network((address, length), strict=False))
            if found is not None:
                return found
        return None

    async def routes(self) -> Routes:
        """Part of the overlay -> address in the underlay, of every other cell, alive or not: a cell that is down comes back."""
        cells = await self._store.cells()
        if cells is not self._cells:
            self._cells = cells
            self.all = tuple(each for each in cells if each.record.name != self._name and self._fits(each.record.subnet))
            self._by_subnet = {each.record.subnet: each for each in self.all}
            self._lengths = frozenset(each.prefixlen for each in self._by_subnet)
            self.without_tunnels = frozenset(each.record.subnet for each in self.all if not each.record.takes_tunnels)
            routes = {each.record.subnet: each.record.underlay for each in self.all}
            self._routes = self._routes if routes == self._routes else routes
        return self._routes

    def _fits(self, subnet: IPv4Network) -> bool:
        """A record that would take packets from this cell's own containers, or from the world, is left out."""
        return subnet.subnet_of(self._overlay) and not subnet.overlaps(self._subnet)
