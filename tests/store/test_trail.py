"""Who changed policies is kept in the store: in order, no more than a bound, with the rights of the change."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import HostRefused
from agent.model.credentials import StoreCredentials
from agent.store.database import Database
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.keys import Keys
from agent.store.etcd.trail import EtcdTrail
from agent.store.protocols import MOST_CHANGES, TrailStore
from agent.store.sqlite_trail import SqliteTrail
from tests.testlib.stores.etcd import Etcd, secret_file
from tests.testlib.stores.secured_etcd import SECRET, add_operator, secured
from tests.testlib.stores.shared import EtcdCells


@pytest.fixture(params=["sqlite", "etcd"])
async def trail(request: pytest.FixtureRequest, database: Database, etcd: Etcd) -> AsyncIterator[TrailStore]:
    if request.param == "sqlite":
        yield SqliteTrail(database)
        return
    client, moments = EtcdClient(etcd.config), iter(range(1, 10_000))
    async with contextlib.AsyncExitStack() as stack:
        yield EtcdTrail(client, EtcdCells(etcd, stack).keys, cell="one", clock=lambda: float(next(moments)))
    await client.close()


async def test_the_newest_are_kept_in_their_order(trail: TrailStore) -> None:
    for number in range(MOST_CHANGES + 3):
        await trail.add_change(b"%d" % number)
    assert await trail.changes() == [b"%d" % number for number in range(3, MOST_CHANGES + 3)]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Etcd]:
    for etcd in secured(tmp_path, ask=False):
        add_operator(etcd)
        yield etcd


async def test_an_operator_may_write_it_a_cell_may_only_read(own: Etcd, tmp_path: Path) -> None:
    config = replace(own.config, username="cell-1", password_file=secret_file(tmp_path / "password", "SECRET\n"))
    client = EtcdClient(config)
    trail = EtcdTrail(client, Keys("/cellnet"), cell="cell-1")
    with pytest.raises(HostRefused, match="does not let"):
        await trail.add_change(b"forged")
    await trail.add_change(b"done", writer=StoreCredentials(username="operator", password=SECRET))
    assert await trail.changes() == [b"done"]
    await client.close()
