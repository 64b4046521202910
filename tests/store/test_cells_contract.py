"""What every store that cells can share promises them, asked of each in the same words."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from agent.errors import Conflict, InvalidInput
from agent.model.app_port import AppPort
from agent.model.cell import Cell, RootsInUse
from agent.store.protocols import CellStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.etcd import Etcd
from tests.testlib.stores.shared import DAY, NOW, OVERLAY, Cells, EtcdCells, MemoryCells, cell, endpoint, runs


@pytest.fixture(params=["memory", "etcd"])
async def cells(request: pytest.FixtureRequest, etcd: Etcd) -> AsyncIterator[Cells]:
    async with contextlib.AsyncExitStack() as stack:
        yield MemoryCells() if request.param == "memory" else EtcdCells(etcd, stack)


async def sees(store: CellStore, *expected: str) -> None:
    """Wait until these cells are alive there, and no others are known."""

    async def so() -> bool:
        return [each.record.name for each in await store.cells() if each.alive_since == NOW] == list(expected)

    await eventually_async(so)


async def knows(store: CellStore, *expected: Cell) -> None:
    async def so() -> bool:
        return await store.cells() == expected

    await eventually_async(so)


async def test_cells_that_announce_themselves_find_each_other(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    for store in (one, two):
        await knows(store, Cell(first, NOW), Cell(second, NOW))


async def test_the_list_of_cells_is_the_same_object_until_it_changes(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    await cell(one, "one")
    await cell(two, "two")
    await sees(one, "one", "two")
    known = await one.cells()
    await two.publish([])
    await one.claim_tags([app("web")], now=NOW)
    assert await one.cells() is known


async def test_a_changed_address_reaches_the_others(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    await sees(two, "one")
    moved = replace(first, underlay=IPv4Address("198.51.100.7"), version="0.2")
    await one.announce(moved)
    await knows(two, Cell(moved, NOW))


async def test_what_a_cell_says_of_its_roots_reaches_the_others(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    spoken = replace(first, roots=RootsInUse(trusts=("ab" * 32, "cd" * 32), signs_with=("cd" * 32,)))
    await one.announce(spoken)
    await knows(two, Cell(spoken, NOW), Cell(second, NOW))
    assert await two.living() == {"one": spoken, "two": second}
    await cells.lapse(one, "one")
    await knows(two, Cell(spoken, None), Cell(second, NOW))
    assert await two.living() == {"two": second}


async def test_what_runs_on_a_cell_is_seen_by_all(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    web, api, job = endpoint(first, "web"), endpoint(first, "api", of="api", last=3), endpoint(second, "job", of="job")
    await one.publish([web, api])
    await two.publish([job])
    for store in (one, two):
        await runs(store, web, api, job)
    await one.publish([api])
    for store in (one, two):
        await runs(store, api, job)


async def test_what_a_cells_files_allow_is_seen_by_all_and_goes_with_the_cell(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    await cell(two, "two")
    for policies in (b"some", b"others"):
        await one.publish_policies(policies)
        await eventually_async(lambda policies=policies: two.published_policies() == {"one": policies})  # type: ignore[misc]
    known = two.published_policies()
    await two.claim_tags([app("web")], now=NOW)
    assert two.published_policies() is known
    await one.publish([endpoint(first, "web")])
    await eventually_async(lambda: two.published_policies() is not known)
    await cells.lapse(one, "one")
    assert two.published_policies() == {"one": b"others"}, "the cell comes back"
    await two.remove_cell("one", now=NOW)
    await eventually_async(lambda: two.published_policies() == {})


async def test_what_is_published_before_the_cell_is_announced_comes_with_it(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    subnet = await one.claim_subnet("id-of-one", network=OVERLAY, cell_prefix=24, now=NOW)
    first = replace(await cell(two, "two"), name="one", id="id-of-one", subnet=subnet, underlay=IPv4Address("198.51.100.1"))
    web = endpoint(first, "web")
    await one.publish([web])
    assert not two.endpoints()
    await one.announce(first)
    await runs(two, web)


async def test_only_other_cells_addresses_depart_and_each_is_reported_once(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    web, api, db = endpoint(first, "web"), endpoint(first, "api", of="api", last=3), endpoint(first, "db", of="db", last=4)
    await one.publish([web, api, db])
    await two.publish([endpoint(second, "job")])
    await eventually_async(lambda: len(one.endpoints()) == len(two.endpoints()) == 4)
    await one.publish([replace(web, app=app("other")), replace(db, ports=(AppPort(9090),))])
    await two.publish([])
    await eventually_async(lambda: len(one.endpoints()) == len(two.endpoints()) == 2)
    assert two.take_departed() == {web.address, api.address}
    assert two.take_departed() == frozenset()
    assert one.take_departed() == {second.subnet[2]}


async def test_what_runs_on_a_cell_that_is_no_longer_alive_departs_and_its_record_stays(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    web = endpoint(first, "web")
    await one.publish([web])
    await eventually_async(lambda: web.address in two.endpoints())
    await cells.lapse(one, "one")
    await runs(two)
    await knows(two, Cell(first, None), Cell(second, NOW))
    assert two.take_departed() == {web.address}


async def test_a_name_that_another_machine_has_is_a_conflict(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("one")
    first = await cell(one, "one", underlay="192.0.2.251")
    with pytest.raises(Conflict, match=r"cell one is another machine \(id id-of-one, underlay 192\.0\.2\.251\)") as refused:
        await cell(two, "one", id="clone")
    assert "`cellnet cell remove one` if that machine is gone" in refused.value.hint
    await knows(two, Cell(first, NOW))


async def test_two_cells_behind_one_address_are_a_conflict_while_the_first_is_alive(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one", underlay="192.0.2.252")
    await sees(two, "one")
    with pytest.raises(Conflict, match=r"cell one is alive behind the same underlay address 192\.0\.2\.252"):
        await cell(two, "two", underlay="192.0.2.252")
    await knows(two, Cell(first, NOW))
    await cells.lapse(one, "one")
    await knows(two, Cell(first, None))
    second = await cell(two, "two", underlay="192.0.2.252")
    await knows(two, Cell(second, NOW))


async def test_a_host_that_was_renamed_leaves_no_cell_of_the_old_name_behind(cells: Cells) -> None:
    other, before = cells.store("other"), cells.store("before")
    third = await cell(other, "other")
    first = await cell(before, "before", id="machine")
    await before.publish([endpoint(first, "web")])
    await sees(other, "before", "other")
    await cells.lapse(before, "before")
    after = cells.store("after")
    renamed = await cell(after, "after", id="machine")
    assert renamed.subnet == first.subnet
    await knows(other, Cell(renamed, NOW), Cell(third, NOW))
    with pytest.raises(InvalidInput, match="there is no cell 'before'"):
        await other.remove_cell("before", now=NOW)
    await runs(other)


async def test_a_cell_that_is_gone_can_be_removed_and_its_subnet_rests(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    second = await cell(two, "two")
    await one.refer([app("web")])
    await one.claim_tags([app("web")], now=NOW)
    await sees(two, "one", "two")
    await cells.lapse(one, "one")
    await knows(two, Cell(first, None), Cell(second, NOW))
    await two.remove_cell("one", now=NOW)
    await knows(two, Cell(second, NOW))
    await two.release_tags([app("web")], now=NOW)
    assert await two.tags() == {}
    small = IPv4Network("10.255.0.0/23")  # room for one
    with pytest.raises(Conflict, match="and 1 of removed ones rest for a week"):
        await two.claim_subnet("third", network=small, cell_prefix=24, now=NOW + 6 * DAY)
    assert await two.claim_subnet("third", network=OVERLAY, cell_prefix=24, now=NOW + 6 * DAY) not in (
        first.subnet,
        second.subnet,
    )
    assert await two.claim_subnet("fourth", network=small, cell_prefix=24, now=NOW + 7 * DAY) == first.subnet


async def test_a_cell_that_was_removed_while_out_of_touch_comes_back_as_it_was(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    await cells.lapse(one, "one")
    await knows(two, Cell(first, None), Cell(second, NOW))
    await two.remove_cell("one", now=NOW)
    again = cells.store("one")
    assert await again.claim_subnet("id-of-one", network=OVERLAY, cell_prefix=24, now=NOW + DAY) == first.subnet
    await again.announce(first)
    await knows(two, Cell(first, NOW), Cell(second, NOW))
    with pytest.raises(Conflict, match=r"1 cells have one$"):
        await two.claim_subnet("third", network=IPv4Network("10.255.0.0/23"), cell_prefix=24, now=NOW + 30 * DAY)


async def test_neither_a_living_cell_nor_one_that_is_not_there_can_be_removed(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    await sees(two, "one")
    with pytest.raises(Conflict, match="cell one is alive"):
        await two.remove_cell("one", now=NOW)
    with pytest.raises(InvalidInput, match="there is no cell 'onne' in the store") as refused:
        await two.remove_cell("onne", now=NOW)
    assert refused.value.hint == "did you mean 'one'?"
    await knows(two, Cell(first, NOW))


async def test_the_operators_roots_reach_every_cell(cells: Cells) -> None:
    one, two = cells.store("one"), cells.store("two")
    assert await two.trust() == b""
    heard: list[int] = []
    two.changes.subscribe(lambda: heard.append(1))
    await one.set_trust(b"-----BEGIN CERTIFICATE-----\n")

    async def so() -> bool:
        return await two.trust() == b"-----BEGIN CERTIFICATE-----\n"

    await eventually_async(so)
    assert heard == [1]
    await one.set_trust(b"")

    async def gone() -> bool:
        return await two.trust() == b""

    await eventually_async(gone)
