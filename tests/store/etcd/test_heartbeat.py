"""Being alive in etcd: leases that run out or are taken up, outages, cells that are cut off, and what it costs to report."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network

import pytest

from agent.errors import Unavailable
from agent.model.cell import Cell, Endpoint
from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.heartbeat import Timing
from agent.store.etcd.store import EtcdStore
from agent.store.protocols import StoredPolicy
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.etcd import Etcd
from tests.testlib.stores.relay import Relay
from tests.testlib.stores.shared import NOW, OVERLAY, EtcdCells, cell, endpoint, runs

SHORT = Timing(lease=1, again=0.1)


@pytest.fixture
async def cells(etcd: Etcd) -> AsyncIterator[EtcdCells]:
    async with contextlib.AsyncExitStack() as stack:
        yield EtcdCells(etcd, stack)


@pytest.fixture
async def brief(etcd: Etcd) -> AsyncIterator[EtcdCells]:
    """The same, whose leases run out after a second."""
    async with contextlib.AsyncExitStack() as stack:
        yield EtcdCells(etcd, stack, timing=SHORT)


async def knows(store: EtcdStore, *expected: Cell) -> None:
    async def so() -> bool:
        return await store.cells() == expected

    await eventually_async(so)


async def test_a_cell_that_has_caught_up_knows_what_was_done_before(cells: EtcdCells) -> None:
    """Removed and made, by a cell whose watch brings it a while later."""
    one, two = cells.store("one"), cells.store("two")
    await eventually_async(lambda: two.mirror.problem is None)
    for _ in range(20):
        await one.apply_policies([StoredPolicy("p", "made"), StoredPolicy("q", "made")])
        await two.catch_up()
        assert [each.name for each in await two.policies()] == ["p", "q"]
        await one.delete_policy("p")
        await two.catch_up()
        assert [each.name for each in await two.policies()] == ["q"]


async def test_no_cell_catches_up_with_an_etcd_that_does_not_answer(own: Etcd) -> None:
    async with contextlib.AsyncExitStack() as stack:
        one = EtcdCells(own, stack).store("one")
        await eventually_async(lambda: one.mirror.problem is None)
        own.kill()
        with pytest.raises(Unavailable):
            await one.catch_up()


async def revision(etcd: Etcd, prefix: str) -> int:
    """How many transactions have changed anything below the prefix, as etcd counts: its newest revision there."""
    client = EtcdClient(etcd.config)
    found = await client.read(prefix)
    await client.close()
    return max(value.revision for value in found.values.values())


async def reports(cells: EtcdCells, name: str, *, since: int) -> int:
    """How many transactions after that revision have changed what the cell publishes of itself, deletions among them."""
    client, of_cell = EtcdClient(cells.etcd.config), (cells.keys.cell(name), cells.keys.endpoints_of(name))
    last = await client.commit(do=[put(f"{cells.keys.root}last", b"")])
    assert last is not None
    found = set[int]()
    async for batch in client.watch(cells.prefix, since=since):
        found.update(change.revision for change in batch.changes if change.key.startswith(of_cell))
        if batch.revision >= last:
            break
    await client.close()
    return len(found)


async def numbers_are_claimed(cells: EtcdCells, *endpoints: Endpoint) -> None:
    """Wait until they are, which happens beside their publication, a moment later."""
    client = EtcdClient(cells.etcd.config)

    async def so() -> bool:
        claims = (await client.read(cells.keys.indexes)).values
        return all(cells.keys.index(each.app, each.instance) in claims for each in endpoints)

    await eventually_async(so)
    await client.close()


async def test_what_ran_on_a_cell_whose_agent_is_dead_goes_with_its_lease(brief: EtcdCells) -> None:
    one, two = brief.store("one"), brief.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    web = endpoint(first, "web")
    await one.publish([web])
    await runs(two, web)
    await brief.stop(one)
    await runs(two)
    await knows(two, Cell(first, None), Cell(second, NOW))
    assert two.take_departed() == {web.address}


async def test_a_lease_that_is_kept_outlives_its_seconds_and_writes_nothing(brief: EtcdCells) -> None:
    one, two = brief.store("one"), brief.store("two")
    first = await cell(one, "one")
    await one.publish([endpoint(first, "web")])
    await cell(two, "two")
    await runs(two, endpoint(first, "web"))
    await numbers_are_claimed(brief, endpoint(first, "web"))
    known, written = await two.cells(), await revision(brief.etcd, brief.prefix)
    await asyncio.sleep(3 * SHORT.lease)
    assert await two.cells() is known
    assert two.take_departed() == frozenset()
    assert await revision(brief.etcd, brief.prefix) == written


async def test_a_restart_of_an_agent_is_not_seen_by_others(cells: EtcdCells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    web = endpoint(first, "web")
    await one.publish([web])
    await runs(two, web)
    await numbers_are_claimed(cells, web)
    known, written, heard = await two.cells(), await revision(cells.etcd, cells.prefix), list[int]()
    two.changes.subscribe(lambda: heard.append(1))
    await cells.stop(one)
    again = cells.store("one")
    await again.announce(first)
    await again.publish([web])
    assert await again.cells() == known
    assert await revision(cells.etcd, cells.prefix) == written
    await two.set_trust(b"x")  # whatever was written before is heard before this
    assert heard == [1]
    assert await two.cells() is known
    assert two.take_departed() == frozenset()


async def test_a_restart_after_the_lease_has_run_out_begins_a_new_one(cells: EtcdCells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    web = endpoint(first, "web")
    await one.publish([web])
    await runs(two, web)
    await cells.lapse(one, "one")
    await runs(two)
    again = cells.store("one")
    await again.announce(first)
    await again.publish([web])
    await runs(two, web)
    assert two.take_departed() == {web.address}


async def test_a_lease_that_is_lost_is_replaced_and_all_is_written_anew(brief: EtcdCells) -> None:
    one, two = brief.store("one"), brief.store("two")
    first = await cell(one, "one")
    web = endpoint(first, "web")
    await one.publish([web])
    await runs(two, web)
    client = EtcdClient(brief.etcd.config)
    for value in (await client.read(brief.keys.alive("one"))).values.values():
        await client.revoke(value.lease)
    await client.close()
    await eventually_async(lambda: web.address in two.take_departed())
    await runs(two, web)
    await knows(two, Cell(first, NOW))


async def test_deleted_records_are_written_again(brief: EtcdCells) -> None:
    one, two = brief.store("one"), brief.store("two")
    first = await cell(one, "one")
    web = endpoint(first, "web")
    await one.publish([web])
    await runs(two, web)
    keys = brief.keys
    for key in (keys.record("one"), keys.alive("one"), keys.endpoints_of("one") + "web", keys.subnet(first.subnet)):
        brief.etcd.ctl("del", key)
        await knows(two, Cell(first, NOW))
        await runs(two, web)


async def test_a_foreign_endpoint_in_a_cells_name_is_removed(brief: EtcdCells) -> None:
    one, two = brief.store("one"), brief.store("two")
    first = await cell(one, "one")
    await one.publish([endpoint(first, "web")])
    brief.etcd.ctl("put", brief.keys.endpoints_of("one") + "job", "{}")
    await runs(two, endpoint(first, "web"))
    await eventually_async(lambda: not two.malformed)


async def test_an_etcd_that_is_restarted_changes_nothing(own: Etcd) -> None:
    async with contextlib.AsyncExitStack() as stack:
        cells = EtcdCells(own, stack)
        one, two = cells.store("one"), cells.store("two")
        first, second = await cell(one, "one"), await cell(two, "two")
        web, job = endpoint(first, "web"), endpoint(second, "job")
        await one.publish([web])
        await two.publish([job])
        await runs(one, web, job)
        known = await one.cells()
        own.kill()
        await eventually_async(lambda: one.mirror.problem is not None)
        assert (await one.cells(), len(one.endpoints())) == (known, 2)
        own.start()
        await eventually_async(lambda: one.mirror.problem is None and two.mirror.problem is None)
        third = endpoint(second, "more", of="api", last=3)
        await two.publish([job, third])
        await runs(one, web, job, third)
        assert await one.cells() is known
        assert one.take_departed() == two.take_departed() == frozenset()


async def test_a_cell_that_was_cut_off_for_longer_than_its_lease_comes_back_by_itself(brief: EtcdCells) -> None:
    two = brief.store("two")
    second = await cell(two, "two")
    async with Relay.to(brief.etcd) as wire:
        one = brief.store("one", etcd=wire.config)
        first = await cell(one, "one")
        web = endpoint(first, "web")
        await one.publish([web])
        await runs(two, web)
        wire.cut()
        await runs(two)
        await knows(two, Cell(first, None), Cell(second, NOW))
        assert web.address in one.endpoints(), "what it knew, it goes on knowing"
        wire.mend()
        await runs(two, web)
        await knows(two, Cell(first, NOW), Cell(second, NOW))
        assert two.take_departed() == {web.address}
        await runs(one, web)


async def test_a_cell_whose_address_has_changed_reports_it_over_a_new_connection(cells: EtcdCells) -> None:
    """The old one carries nothing any more, and it takes eleven seconds to notice that."""
    cells.seconds = 60.0
    async with Relay.to(cells.etcd) as wire:
        one, two = cells.store("one", etcd=wire.config), cells.store("two")
        moved = replace(await cell(one, "one"), underlay=IPv4Address("198.51.100.9"))
        wire.lose()
        announcing = asyncio.get_running_loop().create_task(one.announce(moved))

        async def followed() -> bool:
            return moved in [each.record for each in await two.cells()]

        await eventually_async(followed, seconds=8)
        await announcing


async def test_a_cell_that_was_removed_while_it_was_cut_off_writes_itself_again(brief: EtcdCells) -> None:
    two = brief.store("two")
    second = await cell(two, "two")
    async with Relay.to(brief.etcd) as wire:
        one = brief.store("one", etcd=wire.config)
        first = await cell(one, "one")
        await one.publish([endpoint(first, "web")])
        await one.refer([app("web")])
        wire.cut()
        await knows(two, Cell(first, None), Cell(second, NOW))
        await two.remove_cell("one", now=NOW)
        await knows(two, Cell(second, NOW))
        wire.mend()
        await knows(two, Cell(first, NOW), Cell(second, NOW))
        await runs(two, endpoint(first, "web"))
        assert two.malformed == {}


async def test_a_cell_whose_subnet_went_to_another_reports_it(brief: EtcdCells) -> None:
    two = brief.store("two")
    async with Relay.to(brief.etcd) as wire:
        one = brief.store("one", etcd=wire.config)
        first = await cell(one, "one")
        wire.cut()
        await knows(two, Cell(first, None))
        await two.remove_cell("one", now=NOW)
        small = IPv4Network("10.255.0.0/23")
        taken = await two.claim_subnet("id-of-two", network=small, cell_prefix=24, now=NOW + 8 * 24 * 3600)
        await two.announce(replace(first, name="two", id="id-of-two", underlay=IPv4Address("198.51.100.9")))
        assert taken == first.subnet
        wire.mend()
        await eventually_async(lambda: any("was given to cell two" in each.what for each in one.problems()))
        assert [each.record.name for each in await two.cells()] == ["two"]


async def test_telling_of_many_containers_takes_few_transactions_and_of_one_more_one(cells: EtcdCells) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    many = [endpoint(first, f"web-{number}", last=number) for number in range(2, 252)]
    before = await revision(cells.etcd, cells.prefix)
    await one.publish(many)
    assert await reports(cells, "one", since=before) <= 3
    await runs(two, *many)
    before = await revision(cells.etcd, cells.prefix)
    await one.publish([*many[1:], endpoint(first, "more", last=252)])
    assert await reports(cells, "one", since=before) == 1
    await runs(two, *many[1:], endpoint(first, "more", last=252))


def all_run(store: EtcdStore) -> bool:
    return len(store.endpoints()) == 50


async def test_fifty_cells_that_start_at_once_all_find_each_other(cells: EtcdCells) -> None:
    cells.timing, cells.seconds = Timing(lease=60), 20.0  # fifty agents share one thread here
    stores = [cells.store(f"cell-{number}") for number in range(50)]

    async def start(number: int) -> None:
        first = await cell(stores[number], f"cell-{number}", underlay=f"198.51.100.{number + 1}")
        await stores[number].publish([endpoint(first, "web")])

    await asyncio.gather(*map(start, range(50)))
    for store in stores:
        await eventually_async(partial(all_run, store))
        found = await store.cells()
        assert len({each.record.subnet for each in found}) == 50
        assert all(each.record.subnet.subnet_of(OVERLAY) and each.alive_since == NOW for each in found)


async def test_a_reading_that_is_ahead_of_the_watch_breaks_nothing(cells: EtcdCells) -> None:
    one = cells.store("one")
    await cell(one, "one")
    await eventually_async(lambda: one.mirror.following)
    clients = [EtcdClient(cells.etcd.config) for _ in range(10)]

    async def write(client: EtcdClient, key: str) -> None:
        for number in range(50):
            await client.commit(do=[put(key, str(number).encode())])

    async def read() -> None:
        for _ in range(50):
            await one.mirror.refresh()
            assert one.mirror.following

    writing = [write(client, cells.keys.cell(f"x{number}") + "x") for number, client in enumerate(clients)]
    await asyncio.gather(*writing, *(read() for _ in range(10)))
    for client in clients:
        await client.close()
