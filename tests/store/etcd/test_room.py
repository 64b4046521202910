"""An etcd whose data comes near its quota is reported long before it takes no writes."""

import contextlib
from dataclasses import replace
from pathlib import Path

from agent.store.etcd.client import EtcdClient
from agent.store.etcd.heartbeat import Timing
from agent.store.etcd.store import EtcdStore
from tests.testlib.patience import eventually_async
from tests.testlib.stores.etcd import SmallEtcd, secret_file
from tests.testlib.stores.secured_etcd import secured
from tests.testlib.stores.shared import EtcdCells, cell

QUOTA = 2 << 20  # a SmallEtcd's
SOON = Timing(again=0.1, check=0.1)


def warns(store: EtcdStore, words: str) -> bool:
    return any(words in each.what for each in store.problems())


async def test_it_warns_at_sixty_per_cent_while_etcd_still_takes_writes(
    small: SmallEtcd, stack: contextlib.AsyncExitStack
) -> None:
    cells = EtcdCells(small, stack, timing=SOON)
    store = cells.store("one", etcd=replace(small.config, quota=QUOTA))
    await cell(store, "one")
    await eventually_async(lambda: store.problems() == ())
    for number in range(13):
        small.ctl("put", f"/other/{number}", "x" * 100_000)
    await eventually_async(lambda: warns(store, "of 2 MiB, its quota"))
    await store.summaries.publish_summary(b"of one")
    small.make_room()
    await eventually_async(lambda: store.problems() == ())


async def test_without_a_quota_of_its_own_etcds_default_counts(small: SmallEtcd, stack: contextlib.AsyncExitStack) -> None:
    store = EtcdCells(small, stack, timing=SOON).store("one")
    await cell(store, "one")
    for number in range(13):
        small.ctl("put", f"/other/{number}", "x" * 100_000)
    seen = store._room

    def has_looked() -> bool:
        return seen._used[0] > 1_300_000

    await eventually_async(has_looked)
    assert seen._used[1] == 2 << 30
    assert not warns(store, "its quota")


async def test_a_cells_user_may_ask(tmp_path: Path) -> None:
    for etcd in secured(tmp_path, ask=False):
        config = replace(etcd.config, username="cell-1", password_file=secret_file(tmp_path / "password", "SECRET\n"))
        client = EtcdClient(config)
        assert (await client.size())[0] > 0
        await client.close()
