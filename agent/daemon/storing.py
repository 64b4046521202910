"""Which store this cell has, and what runs and is told with it."""

import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from agent.config.config import Config
from agent.control.service import Problem, StoreView
from agent.store.database import Database
from agent.store.sqlite import SqliteStore
from agent.store.store import Store


@dataclass(frozen=True, slots=True)
class Storing:
    """`run` must be awaited as long as the store is used; it ends only by being cancelled."""

    store: Store
    view: StoreView
    problems: Callable[[], tuple[Problem, ...]]
    run: Callable[[], Coroutine[None, None, None]] | None = None


def storing(config: Config, database: Database, stack: contextlib.AsyncExitStack) -> Storing:
    """The store that the configuration names, opened; nothing is asked of it yet."""
    if config.store is None:
        view = StoreView(kind="sqlite", location=str(config.paths.database))
        return Storing(SqliteStore(database), view, problems=tuple)
    from agent.store.etcd.client import EtcdClient  # a cell of its own need not load what speaks to an etcd
    from agent.store.etcd.keeping import Kept
    from agent.store.etcd.store import EtcdStore

    client = EtcdClient(config.store)
    stack.push_async_callback(client.close)
    store = EtcdStore(client, prefix=config.store.prefix, cell=config.cell, kept=Kept(database))
    return Storing(
        store,
        StoreView(kind="etcd", location=str(config.store)),
        problems=lambda: tuple(Problem("store", what, hint) for what, hint in store.problems()),
        run=store.run,
    )
