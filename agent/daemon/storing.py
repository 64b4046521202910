"""Which store this cell has, and what runs and is told with it."""

import contextlib
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from agent.config.config import Config
from agent.errors import InvalidInput
from agent.model.credentials import StoreCredentials
from agent.model.status import Part, Problem
from agent.store.database import Database
from agent.store.protocols import Store
from agent.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class StoreRow:
    """`kind` is the implementation (sqlite, etcd), `location` its file or its endpoints."""

    kind: str
    location: str


@dataclass(frozen=True, slots=True)
class Storing(Part):
    """`run` must be awaited as long as the store is used; it ends only by being cancelled."""

    store: Store
    row: StoreRow
    complaints: Callable[[], tuple[tuple[str, str], ...]]
    acting_as: Callable[[StoreCredentials | None], AbstractAsyncContextManager[None]]
    """What the caller's task changes in the store meanwhile is changed with these rights; with the cell's own for None."""
    run: Callable[[], Coroutine[None, None, None]] | None = None

    def problems(self) -> tuple[Problem, ...]:
        """What keeps the cells from hearing of each other."""
        return tuple(Problem("store", what, hint) for what, hint in self.complaints())

    async def rows(self) -> Mapping[str, object]:
        """`store`."""
        return {"store": self.row}


def storing(config: Config, database: Database, stack: contextlib.AsyncExitStack) -> Storing:
    """The store that the configuration names, opened; nothing is asked of it yet."""
    if config.store is None:
        row = StoreRow("sqlite", str(config.paths.database))
        return Storing(SqliteStore(database), row, complaints=tuple, acting_as=_as_nobody_else)
    from agent.store.etcd.client import EtcdClient  # a cell of its own need not load what speaks to an etcd
    from agent.store.etcd.disk_copy import Kept
    from agent.store.etcd.operator import acting_as
    from agent.store.etcd.store import EtcdStore

    etcd = config.store
    client = EtcdClient(etcd)
    stack.push_async_callback(client.close)
    kept, overlay = Kept(database), config.overlay.network
    store = EtcdStore(client, prefix=etcd.prefix, cell=config.cell, overlay=overlay, kept=kept)
    return Storing(
        store,
        StoreRow("etcd", str(config.store)),
        complaints=store.problems,
        acting_as=lambda who: contextlib.nullcontext() if who is None else acting_as(who, client=client, etcd=etcd),
        run=store.run,
    )


def _as_nobody_else(who: StoreCredentials | None) -> AbstractAsyncContextManager[None]:
    if who is not None:
        raise InvalidInput("this cell's store is a file of its own, which asks for no credentials", hint="leave them out")
    return contextlib.nullcontext()
