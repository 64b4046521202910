"""The one cell of a store that is nobody else's: it is alive as long as it asks, and has no peers."""

from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address
from types import MappingProxyType

from agent.model.cell import Cell, CellRecord, Endpoint
from agent.store.protocols import no_such_cell, still_alive


class Alone:
    """Kept in memory: what it says of itself it says anew at each start. `clock` gives seconds since 1970."""

    def __init__(self, *, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._endpoints: dict[IPv4Address, Endpoint] = {}
        self.cells: tuple[Cell, ...] = ()
        self.endpoints: Mapping[IPv4Address, Endpoint] = MappingProxyType(self._endpoints)

    def announce(self, record: CellRecord) -> None:
        """Whatever was said before, by another id or name: the file has come to this machine."""
        since = self.cells[0].alive_since if self.cells else self._clock()
        cells = (Cell(record, since),)
        if cells != self.cells:
            self.cells = cells
            self._changed()

    def publish(self, endpoints: Collection[Endpoint]) -> None:
        """All there are."""
        after = {each.address: each for each in endpoints}
        if after != self._endpoints:
            self._endpoints.clear()
            self._endpoints.update(after)
            self._changed()

    def refuse_to_remove(self, name: str) -> None:
        """Raises InvalidInput or Conflict: whoever can ask is alive, and there is no other."""
        known = [each.record.name for each in self.cells]
        raise still_alive(name) if name in known else no_such_cell(name, known=known)
