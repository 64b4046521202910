"""The one cell of a store that it does not share: it is alive as long as it asks, and has no peers."""

import time
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.credentials import StoreCredentials
from agent.store import subnets
from agent.store.changes import Changes
from agent.store.database import Database
from agent.store.refusals import no_such_cell, refuse_credentials, still_alive
from agent.store.subnets import SubnetClaim

NOTHING_PUBLISHED: Mapping[str, bytes] = MappingProxyType({})


class LoneCell:
    """A CellStore. Only its subnet is in the file: it announces and publishes all else anew at each start.

    `clock` gives seconds since 1970.
    """

    def __init__(self, database: Database, *, changes: Changes, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock
        self._cells: tuple[Cell, ...] = ()
        self._endpoints: dict[IPv4Address, Endpoint] = {}

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
        mine = subnets.held(self._subnets(), cell, network=network, cell_prefix=cell_prefix)
        if mine is not None:
            return mine  # a start must not need a disk with room
        with self._database.transaction(durable=True) as connection:
            mine = subnets.choose(self._subnets(), cell, network=network, cell_prefix=cell_prefix, now=now)
            connection.execute("INSERT OR REPLACE INTO subnets (cell, subnet) VALUES (?, ?)", (cell, str(mine)))
        self._changes.announce()
        return mine

    def _subnets(self) -> subnets.Claims:
        rows = self._database.read("SELECT cell, subnet FROM subnets")
        return {IPv4Network(row["subnet"]): SubnetClaim(row["cell"]) for row in rows}

    async def announce(self, record: CellRecord) -> None:
        """See CellStore. Another id or name than before is no conflict: the file was moved to this machine."""
        since = self._cells[0].alive_since if self._cells else self._clock()
        cells = (Cell(record, since),)
        if cells != self._cells:
            self._cells = cells
            self._changes.announce()

    async def cells(self) -> tuple[Cell, ...]:
        return self._cells

    async def living(self) -> Mapping[str, CellRecord | None]:
        return {each.record.name: each.record for each in self._cells}

    async def remove_cell(self, name: str, *, now: float, writer: StoreCredentials | None = None) -> None:
        """See CellStore. There is no cell but this one, which is alive."""
        refuse_credentials(writer)
        known = [each.record.name for each in self._cells]
        raise still_alive(name) if name in known else no_such_cell(name, known=known)

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        after = {each.address: each for each in endpoints}
        if after != self._endpoints:
            self._endpoints.clear()
            self._endpoints.update(after)
            self._changes.announce()

    async def publish_policies(self, policies: bytes) -> None:
        """See CellStore. There is no other cell."""

    def published_policies(self) -> Mapping[str, bytes]:
        return NOTHING_PUBLISHED

    def endpoints(self) -> Mapping[IPv4Address, Endpoint]:
        return MappingProxyType(self._endpoints)

    def take_departed(self) -> frozenset[IPv4Address]:
        """See CellStore. There is no other cell."""
        return frozenset()
