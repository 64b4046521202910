"""Which store this cell has: its own file, or an etcd that it shares with others."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.config.config import Config
from agent.model.routes import RouteDomains
from agent.model.status import Part, Problem
from agent.store.changes import Changes
from agent.store.database import Database
from agent.store.lone_cell import LoneCell
from agent.store.lone_names import LoneNames
from agent.store.lone_summaries import LoneSummaries
from agent.store.protocols import CellStore, IndexStore, PolicyStore, RouteStore, SummaryStore, TagStore, TrailStore, TrustStore
from agent.store.sqlite import SqliteStore
from agent.store.sqlite_trail import SqliteTrail

if TYPE_CHECKING:
    from agent.store.etcd.store import EtcdStore


@dataclass(frozen=True, slots=True)
class StoreRow:
    """`kind` is the implementation (sqlite, etcd), `location` its file or its endpoints."""

    kind: str
    location: str


@dataclass(frozen=True, slots=True)
class Storage(Part):
    """The store, as each of its protocols. `shared` is the etcd where it is one: `run` it as long as the store is used."""

    tags: TagStore
    policies: PolicyStore
    trust: TrustStore
    cells: CellStore
    routes: RouteStore
    indexes: IndexStore
    summaries: SummaryStore
    trail: TrailStore
    changes: Changes
    row: StoreRow
    shared: "EtcdStore | None" = None

    def problems(self) -> Iterable[Problem]:
        """See EtcdStore. Those of a file are its database's."""
        return () if self.shared is None else self.shared.problems()

    async def rows(self) -> Mapping[str, object]:
        """`store`."""
        return {"store": self.row}


def open_storage(config: Config, database: Database, stack: contextlib.AsyncExitStack) -> Storage:
    """The store that the configuration names, opened; nothing is asked of it yet."""
    if config.store is None:
        own = SqliteStore(database)
        row, names = StoreRow("sqlite", str(config.paths.database)), LoneNames(database, changes=own.changes)
        lone = LoneCell(database, changes=own.changes)
        return Storage(own, own, own, lone, names, names, LoneSummaries(config.cell), SqliteTrail(database), own.changes, row)
    from agent.store.etcd.client import EtcdClient  # a cell of its own need not load what speaks to an etcd
    from agent.store.etcd.disk_copy import DiskCopy
    from agent.store.etcd.store import EtcdStore

    client, overlay, domains = EtcdClient(config.store), config.overlay.network, RouteDomains.of(config.dns)
    stack.push_async_callback(client.close)
    disk_copy = DiskCopy(database)
    etcd = EtcdStore(
        client, prefix=config.store.prefix, cell=config.cell, overlay=overlay, domains=domains, disk_copy=disk_copy
    )
    row = StoreRow("etcd", str(config.store))
    routes, indexes = etcd.names.routes, etcd.names.indexes
    return Storage(etcd, etcd, etcd, etcd, routes, indexes, etcd.summaries, etcd.trail, etcd.changes, row, shared=etcd)
