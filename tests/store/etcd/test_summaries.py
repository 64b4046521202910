"""Summaries are kept where no cell watches: each writes its own alone, on its lease, and only what has changed."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import HostRefused, Unavailable
from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.keys import Keys
from agent.store.etcd.summaries import EtcdSummaries
from tests.testlib.stores.etcd import Etcd, secret_file
from tests.testlib.stores.secured_etcd import secured
from tests.testlib.stores.shared import EtcdCells, cell


@pytest.fixture
async def cells(etcd: Etcd) -> AsyncIterator[EtcdCells]:
    async with contextlib.AsyncExitStack() as stack:
        yield EtcdCells(etcd, stack)


async def test_each_cell_reads_what_all_say_and_none_is_told_of_it(cells: EtcdCells) -> None:
    one, two = cells.store("one"), cells.store("two")
    await cell(one, "one")
    await cell(two, "two")
    await one.catch_up()
    before = one.mirror.copy.revision
    await one.summaries.publish_summary(b"of one")
    await two.summaries.publish_summary(b"of two")
    assert await one.summaries.summaries() == {"one": b"of one", "two": b"of two"}
    await one.catch_up()
    assert not any("summaries" in key for key in one.mirror.copy.values)
    revision = await revision_of(cells)
    await one.summaries.publish_summary(b"of one")
    assert await revision_of(cells) == revision > before


async def test_a_summary_goes_with_its_cell(cells: EtcdCells) -> None:
    one, two = cells.store("one"), cells.store("two")
    with pytest.raises(Unavailable, match="not announced"):
        await one.summaries.publish_summary(b"early")
    await cell(one, "one")
    await one.summaries.publish_summary(b"of one")
    await cells.lapse(one, "one")
    assert await two.summaries.summaries() == {}


async def test_one_that_went_with_its_lease_is_written_again_though_it_says_the_same(cells: EtcdCells) -> None:
    client, lease = EtcdClient(cells.etcd.config), 0
    one = EtcdSummaries(client, cells.keys, cell="one", lease=lambda: lease)
    for _ in range(2):
        lease = await client.grant(15)
        await one.publish_summary(b"of one")
        assert await one.summaries() == {"one": b"of one"}
        await client.revoke(lease)
        assert await one.summaries() == {}
    await client.close()


async def revision_of(cells: EtcdCells) -> int:
    client = EtcdClient(cells.etcd.config)
    try:
        return (await client.read(cells.prefix + "/summaries/")).revision
    finally:
        await client.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Etcd]:
    yield from secured(tmp_path, ask=False)


async def test_a_cells_role_lets_it_write_its_own_and_read_all(own: Etcd, tmp_path: Path) -> None:
    config = replace(own.config, username="cell-1", password_file=secret_file(tmp_path / "password", "SECRET\n"))
    client, keys = EtcdClient(config), Keys("/cellnet")
    lease = await client.grant(15)
    mine = EtcdSummaries(client, keys, cell="cell-1", lease=lambda: lease)
    try:
        await mine.publish_summary(b"mine")
        assert await mine.summaries() == {"cell-1": b"mine"}
        for other in ("cell-2", "cell-10", "cell-1/more"):
            with pytest.raises(HostRefused, match="does not let"):
                await client.commit(do=[put(keys.summaries + other, b"forged")])
    finally:
        await client.close()
