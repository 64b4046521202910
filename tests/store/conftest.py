"""A ledger, the three stores, and a disk small enough to fill."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Protocol

import pytest

from agent.store.changes import Changes
from agent.store.database import Database
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.store import EtcdStore
from agent.store.ledger import Ledger
from agent.store.lone_cell import LoneCell
from agent.store.lone_names import LoneNames
from agent.store.protocols import CellStore, IndexStore, PolicyStore, RouteStore, TagStore, TrustStore
from agent.store.sqlite import SqliteStore
from agent.store.tags import LAST_TAG
from tests.testlib import disks
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.stores.data_loss import LossyEtcd, StoreWithDisk
from tests.testlib.stores.etcd import Etcd, SmallEtcd, running
from tests.testlib.stores.secured_etcd import secured


class Store(TagStore, PolicyStore, TrustStore, Protocol):
    """What every store is."""


MakeStore = Callable[..., Store]
Cells = Callable[[str], StoreWithDisk]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "cellnet.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()


@pytest.fixture
def ledger(database: Database) -> Ledger:
    ledger = Ledger(database)
    ledger.adopt_subnet(IPv4Network("10.255.1.0/24"))
    return ledger


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One for all tests that leave it well; each store has a prefix of its own."""
    yield from running(Etcd(tmp_path_factory.mktemp("etcd")))


@pytest.fixture(params=["memory", "sqlite", "etcd"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of store."""
    return str(request.param)


@pytest.fixture
async def make_store(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[MakeStore]:
    """Makes an empty store; `last_tag` is the highest number it gives."""
    async with contextlib.AsyncExitStack() as stack:

        def make(*, last_tag: int = LAST_TAG) -> Store:
            if kind == "memory":
                return MemoryStore(last_tag=last_tag)
            if kind == "sqlite":
                return SqliteStore(request.getfixturevalue("database"), last_tag=last_tag)
            client = EtcdClient(request.getfixturevalue("etcd").config)
            store = EtcdStore(client, prefix=f"/test-{uuid.uuid4().hex}", cell="one", last_tag=last_tag)
            stack.push_async_callback(client.close)
            running = asyncio.get_running_loop().create_task(store.run())
            stack.callback(running.cancel)
            return store

        yield make


@pytest.fixture
async def store(make_store: MakeStore) -> Store:
    return make_store()


@pytest.fixture
async def cell_store(kind: str, make_store: MakeStore, request: pytest.FixtureRequest) -> CellStore:
    """The same, as to its cells: that of SQLite has one."""
    if kind == "sqlite":
        return LoneCell(request.getfixturevalue("database"), changes=Changes())
    made = make_store()
    assert isinstance(made, MemoryStore | EtcdStore)
    return made


@pytest.fixture
async def names(kind: str, make_store: MakeStore, request: pytest.FixtureRequest) -> tuple[RouteStore, IndexStore]:
    """The same, as to routes and as to instances' numbers."""
    if kind == "sqlite":
        lone = LoneNames(request.getfixturevalue("database"), changes=Changes())
        return lone, lone
    made = make_store()
    assert isinstance(made, MemoryStore | EtcdStore)
    return (made, made) if isinstance(made, MemoryStore) else (made.names.routes, made.names.indexes)


@pytest.fixture
def routes(names: tuple[RouteStore, IndexStore]) -> RouteStore:
    return names[0]


@pytest.fixture
def indexes(names: tuple[RouteStore, IndexStore]) -> IndexStore:
    return names[1]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Etcd]:
    """An etcd that the test may ruin."""
    yield from running(Etcd(tmp_path / "etcd"))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallEtcd]:
    """One whose quota is small."""
    yield from running(SmallEtcd(tmp_path / "etcd"))


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def lossy(tmp_path: Path) -> Iterator[LossyEtcd]:
    """The same, which can lose its data."""
    yield from running(LossyEtcd(tmp_path / "etcd"))


@pytest.fixture
async def restartable(lossy: LossyEtcd, tmp_path: Path) -> AsyncIterator[Cells]:
    """Starts a cell's store with a disk of its own."""
    made: list[StoreWithDisk] = []

    def make(name: str) -> StoreWithDisk:
        made.append(StoreWithDisk(name, lossy, tmp_path).start())
        return made[-1]

    yield make
    for each in made:
        await each.stop()


@pytest.fixture
def cells(restartable: Cells) -> Cells:
    """The same, where no file has other cells."""
    return restartable


@pytest.fixture
def certificate_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """An etcd with the users and roles of docs/store.md, which takes its users from certificates."""
    yield from secured(tmp_path, ask=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    with disks.small_disk(tmp_path / "disk", "size=1m,mode=0700") as place:
        yield place
