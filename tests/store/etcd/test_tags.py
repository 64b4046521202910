"""Tags that several cells claim and give back at the same time."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest

from agent.errors import Conflict
from agent.store.etcd.store import EtcdStore
from agent.store.tags import REST
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.etcd import Etcd
from tests.testlib.stores.shared import NOW, EtcdCells

WEB = app("web")


@pytest.fixture
async def cells(etcd: Etcd) -> AsyncIterator[EtcdCells]:
    async with contextlib.AsyncExitStack() as stack:
        yield EtcdCells(etcd, stack)


async def has(store: EtcdStore, *, wanted: bool) -> bool:
    return (WEB in await store.tags()) is wanted


async def test_a_claim_returns_the_tag_though_a_cell_that_does_not_need_the_app_gives_it_back_at_once(
    cells: EtcdCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = cells.store("one"), cells.store("two")
    reach = one.mirror.reach

    async def reach_late(revision: int) -> None:
        await reach(revision)
        monkeypatch.undo()
        await eventually_async(partial(has, two, wanted=True))
        await two.release_tags([WEB], now=NOW)
        await eventually_async(partial(has, one, wanted=False))

    monkeypatch.setattr(one.mirror, "reach", reach_late)
    given = await one.claim_tags([WEB], now=NOW)
    assert await one.claim_tags([WEB], now=NOW) == given


async def test_a_number_that_one_cell_has_given_back_is_no_other_cells_for_a_week(
    cells: EtcdCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = cells.store("one"), cells.store("two")
    monkeypatch.setattr(two, "_last_tag", 2)  # so that there is no other
    given = await one.claim_tags([WEB, app("api")], now=NOW)
    await one.release_tags([WEB], now=NOW)
    await eventually_async(partial(has, two, wanted=False))
    with pytest.raises(Conflict):
        await two.claim_tags([app("db")], now=NOW + REST - 1)
    assert await two.claim_tags([app("db")], now=NOW + REST) == {app("db"): given[WEB]}


async def test_an_app_that_another_cell_needs_keeps_its_number(cells: EtcdCells) -> None:
    one, two = cells.store("one"), cells.store("two")
    given = await one.claim_tags([WEB], now=NOW)
    await two.refer([WEB])
    await one.catch_up()
    await one.release_tags([WEB], now=NOW)
    assert await two.claim_tags([WEB], now=NOW + 2 * REST) == given
    assert (await one.tags())[WEB] == given[WEB]
