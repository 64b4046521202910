"""Tags that several cells claim and give back at the same time."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest

from agent.store.etcd.store import EtcdStore
from tests.testlib.attachments import app
from tests.testlib.etcd import Etcd
from tests.testlib.stores import NOW, EtcdCells, eventually

WEB = app("web")


@pytest.fixture
async def cells(etcd: Etcd) -> AsyncIterator[EtcdCells]:
    async with contextlib.AsyncExitStack() as stack:
        yield EtcdCells(etcd, stack)


async def has(store: EtcdStore, *, wanted: bool) -> bool:
    return (WEB in await store.tags()) is wanted


async def test_a_claim_tells_the_tag_though_another_cell_that_does_not_need_the_app_gives_it_back_at_once(
    cells: EtcdCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = cells.store("one"), cells.store("two")
    reach = one.mirror.reach

    async def reach_late(revision: int) -> None:
        await reach(revision)
        monkeypatch.undo()
        await eventually(partial(has, two, wanted=True))
        await two.release_tags([WEB], now=NOW)
        await eventually(partial(has, one, wanted=False))

    monkeypatch.setattr(one.mirror, "reach", reach_late)
    given = await one.claim_tags([WEB], now=NOW)
    assert await one.claim_tags([WEB], now=NOW) == given
