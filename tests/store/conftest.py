"""A ledger, the two stores, and a disk small enough to fill."""

import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.store.database import Database
from agent.store.ledger import Ledger
from agent.store.memory import MemoryStore
from agent.store.sqlite import SqliteStore
from agent.store.store import Store
from agent.store.tags import LAST_TAG

MakeStore = Callable[..., Store]


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


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest) -> MakeStore:
    """Makes an empty store; `last_tag` is the highest number it gives."""

    def make(*, last_tag: int = LAST_TAG) -> Store:
        if request.param == "memory":
            return MemoryStore(last_tag=last_tag)
        return SqliteStore(request.getfixturevalue("database"), last_tag=last_tag)

    return make


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)
