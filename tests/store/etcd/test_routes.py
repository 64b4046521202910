"""Routes on a real etcd, between several cells at once: exactly one space has a name, whatever the others try."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.errors import Conflict, HostRefused, Unavailable
from agent.model.cell import CellRecord, Endpoint
from agent.model.names import AppName, Space
from agent.model.routes import Route, routes_of
from agent.store.etcd.client import EtcdClient, put, remove
from agent.store.etcd.heartbeat import Timing
from agent.store.etcd.names.records import encode_route_claim
from agent.store.etcd.store import EtcdStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.data_loss import LossyEtcd, StoreWithDisk
from tests.testlib.stores.etcd import Etcd, SmallEtcd
from tests.testlib.stores.shared import EtcdCells, cell

WEB, PRESS = app("web"), AppName.parse("acme/blog/press")
SHOP, BLOG = Space.of(WEB), Space.of(PRESS)
Restartable = Callable[[str], StoreWithDisk]
HOST = "backend.apps.internal"
SOON = Timing(again=0.1)


@pytest.fixture
async def cells(etcd: Etcd) -> AsyncIterator[EtcdCells]:
    async with contextlib.AsyncExitStack() as stack:
        yield EtcdCells(etcd, stack, timing=SOON)


@pytest.fixture
async def intruder(etcd: Etcd) -> AsyncIterator[EtcdClient]:
    """What root on a cell has: the rights to all claims."""
    client = EtcdClient(etcd.config)
    yield client
    await client.close()


def spaces(store: EtcdStore) -> dict[str, Space]:
    return {host: route.space for host, route in store.names.routes.routes().items()}


def told(store: EtcdStore) -> list[str]:
    return [each.what for each in store.problems()]


async def has(store: EtcdStore, expected: dict[str, Space]) -> None:
    await eventually_async(lambda: spaces(store) == expected)


def asking(record: CellRecord, of: AppName, *routes: str, last: int = 2) -> Endpoint:
    return Endpoint(record.name, of.app, of, 0, record.subnet[last], routes=routes)


async def claim(store: EtcdStore, host: str, space: Space) -> bool:
    try:
        await store.names.routes.claim_route(host, space)
    except Conflict:
        return False
    return True


@pytest.mark.parametrize("below", ["", "a.", "a.b."])
async def test_of_spaces_that_race_for_a_route_or_ones_above_and_below_exactly_one_has_it(cells: EtcdCells, below: str) -> None:
    stores = [cells.store(f"cell-{number}") for number in range(6)]
    for attempt in range(10):
        wanted = [(f"{each}x{attempt}.{HOST}", Space("acme", f"space-{number}")) for number, each in enumerate(["", below] * 3)]
        got = await asyncio.gather(*(claim(store, *each) for store, each in zip(stores, wanted, strict=True)))
        assert got.count(True) == 1, (attempt, got)
        host, space = wanted[got.index(True)]
        for store in stores:
            await eventually_async(lambda: store.names.routes.routes().get(host) == Route(host, space))
            assert len(store.names.routes.routes()) == attempt + 1
            assert store.malformed == {}


async def test_apps_of_one_space_that_race_for_its_routes_all_have_them(cells: EtcdCells) -> None:
    stores = [cells.store(f"cell-{number}") for number in range(4)]
    hosts = [HOST, f"a.{HOST}", f"b.a.{HOST}", "c.apps.internal"]
    got = await asyncio.gather(*(claim(store, host, SHOP) for store in stores for host in hosts))
    assert all(got)
    for store in stores:
        await has(store, dict.fromkeys(hosts, SHOP))


async def test_an_operators_map_and_an_attach_that_race_leave_the_operators_route(cells: EtcdCells) -> None:
    one, two = cells.store("one"), cells.store("two")
    for number in range(10):
        host = f"x{number}.apps.internal"
        await asyncio.gather(one.names.routes.map_route(host, PRESS), claim(two, f"a.{host}", SHOP), claim(two, host, SHOP))
        for store in (one, two):
            await eventually_async(lambda: store.names.routes.routes()[host].by_operator)
            await eventually_async(lambda: f"a.{host}" not in store.names.routes.routes())


async def test_operators_that_map_one_route_at_once_give_it_to_all_their_apps(cells: EtcdCells) -> None:
    stores = [cells.store(f"cell-{number}") for number in range(5)]
    apps = [app(f"app-{number}") for number in range(5)]
    await asyncio.gather(*(store.names.routes.map_route(HOST, each) for store, each in zip(stores, apps, strict=True)))
    for store in stores:
        await eventually_async(lambda: store.names.routes.routes()[HOST].apps == frozenset(apps))


async def test_a_claim_that_another_cell_takes_over_stays_with_its_living_holder_and_is_named(
    cells: EtcdCells, intruder: EtcdClient
) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    await one.names.routes.claim_route(HOST, SHOP)
    await one.publish([asking(first, WEB, HOST)])
    await has(two, {HOST: SHOP})
    key = cells.keys.claimed_route(HOST)
    await intruder.commit(do=[put(key, encode_route_claim(BLOG, cell="nine"))])
    for store in (one, two):
        await eventually_async(lambda: "acme/shop had it first" in store.malformed.get(key, ""))
        (problem,) = store.problems()
        assert problem.what == (
            f"the claim {key} in etcd is left out: it names acme/blog, but acme/shop had it first, and has not gone"
        )
        assert "cellnet route unmap" in problem.hint
        assert spaces(store) == {HOST: SHOP}
        with pytest.raises(Conflict, match="belongs to acme/shop"):
            await store.names.routes.claim_route(HOST, BLOG)
        await store.names.routes.claim_route(HOST, SHOP)
    await two.names.routes.unmap_route(HOST)
    for store in (one, two):
        await has(store, {})
        assert store.problems() == ()
    await two.names.routes.claim_route(HOST, BLOG)
    await has(one, {HOST: BLOG})
    assert routes_of(WEB, [HOST], one.names.routes.routes()) == (), "though the instance runs on"


async def test_a_claim_that_another_cell_deletes_is_made_again_by_a_cell_that_needs_it(
    cells: EtcdCells, intruder: EtcdClient
) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    await one.names.routes.claim_route(HOST, SHOP)
    await one.names.routes.claim_names({"web.local": WEB})
    await one.publish([asking(first, WEB, HOST)])
    await has(two, {HOST: SHOP})
    keys = (cells.keys.claimed_route(HOST), cells.keys.claimed_name("web.local"))
    seen: list[dict[str, Space]] = []
    two.changes.subscribe(lambda: seen.append(spaces(two)))
    await intruder.commit(do=[remove(key) for key in keys])
    late = cells.store("late")
    await eventually_async(lambda: spaces(late) == {HOST: SHOP} and late.names.routes.claimed_names() == {"web.local": WEB})
    await eventually_async(lambda: two.malformed == one.malformed == {})
    assert all(each == {HOST: SHOP} for each in seen)


async def test_what_was_taken_over_is_known_as_such_after_the_agents_restart(
    lossy: LossyEtcd, restartable: Restartable
) -> None:
    one, two = restartable("one"), restartable("two")
    first = await cell(one.store, "one")
    await one.store.names.routes.claim_route(HOST, SHOP)
    await one.store.publish([asking(first, WEB, HOST)])
    await has(two.store, {HOST: SHOP})
    client, key = EtcdClient(lossy.config), two.store.names.routes._keys.claimed_route(HOST)
    await client.commit(do=[remove(key)])
    await client.commit(do=[put(key, encode_route_claim(BLOG, cell="nine"))])
    await eventually_async(lambda: key in two.store.malformed)
    await two.stop()
    two.start()
    assert spaces(two.store) == {HOST: SHOP}, "from the disk alone"
    await two.well()
    assert spaces(two.store) == {HOST: SHOP}
    assert "acme/shop had it first" in two.store.malformed[key]
    await two.stop()
    await one.store.names.routes.unmap_route(HOST)
    two.start()
    await two.well()
    await has(two.store, {})
    await two.stop()
    two.start()
    assert spaces(two.store) == {}
    await client.close()


async def test_without_etcd_a_new_route_is_refused_and_old_ones_stay(own: Etcd) -> None:
    async with contextlib.AsyncExitStack() as stack:
        cells = EtcdCells(own, stack, timing=SOON, seconds=0.5)
        store = cells.store("one")
        await store.names.routes.claim_route(HOST, SHOP)
        await store.names.routes.claim_names({"web.local": WEB})
        routes, names = store.names.routes.routes(), store.names.routes.claimed_names()
        own.kill()
        for refused in (
            store.names.routes.claim_route("new.apps.internal", SHOP),
            store.names.routes.map_route(HOST, WEB),
            store.names.routes.claim_names({"new.local": WEB}),
        ):
            with pytest.raises(Unavailable):
                await refused
        await eventually_async(lambda: store.mirror.problem is not None)
        with pytest.raises(Conflict, match="belongs to acme/shop"):
            await store.names.routes.claim_route(HOST, BLOG)
        await store.names.routes.claim_route(HOST, SHOP)
        await store.names.routes.claim_names({"web.local": PRESS})
        assert store.names.routes.routes() is routes
        assert store.names.routes.claimed_names() is names
        own.start()
        await eventually_async(lambda: store.mirror.problem is None)
        await store.names.routes.claim_route("new.apps.internal", SHOP)
        assert store.names.routes.routes().keys() == {HOST, "new.apps.internal"}


async def test_an_etcd_that_is_full_refuses_a_new_route_and_old_ones_stay(tmp_path: Path) -> None:
    small = SmallEtcd(tmp_path / "etcd")
    small.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(small.kill)
        store = EtcdCells(small, stack, timing=SOON).store("one")
        await store.names.routes.claim_route(HOST, SHOP)
        small.fill()
        with pytest.raises(HostRefused, match="etcd refuses to write"):
            await store.names.routes.claim_route("new.apps.internal", SHOP)
        await store.names.routes.claim_route(HOST, SHOP)
        assert spaces(store) == {HOST: SHOP}
        assert await store.names.indexes.claim_index(WEB, name="web", wanted=None, avoid=()) == 0


async def test_a_flood_of_claims_is_bounded_and_named_and_keeps_no_cell_from_its_own(
    cells: EtcdCells, intruder: EtcdClient
) -> None:
    one, two = cells.store("one"), cells.store("two")
    await one.names.routes.claim_route(HOST, SHOP)
    made = [cells.keys.claimed_route(f"x{number}.apps.internal") for number in range(6_000)]
    data = encode_route_claim(BLOG, cell="nine")
    for start in range(0, len(made), 100):
        await intruder.commit(do=[put(key, data) for key in made[start : start + 100]])
        if start == 3_000:
            await one.names.routes.claim_route("during.apps.internal", SHOP)
    await eventually_async(
        lambda: "cell nine has claimed 6000 names, as the claims say: 1000 of them are left out" in told(two)
    )
    assert len(spaces(two)) == 5_002
    await one.names.routes.claim_route("after.apps.internal", SHOP)
    await eventually_async(lambda: spaces(two).get("after.apps.internal") == SHOP)
    with pytest.raises(Conflict, match="belongs to acme/blog"):
        await one.names.routes.claim_route("x1.apps.internal", SHOP)
    await one.names.routes.map_route("x1.apps.internal", WEB)
    await eventually_async(lambda: spaces(two)["x1.apps.internal"] == SHOP)


async def test_a_claim_that_makes_no_sense_is_no_spaces_until_the_operator_frees_it(
    cells: EtcdCells, intruder: EtcdClient
) -> None:
    one = cells.store("one")
    key = cells.keys.claimed_route(HOST)
    await intruder.commit(do=[put(key, b"nonsense")])
    await eventually_async(lambda: key in one.malformed)
    with pytest.raises(Conflict, match="makes no sense: Invalid JSON") as refused:
        await one.names.routes.claim_route(HOST, SHOP)
    assert "cellnet route unmap" in refused.value.hint
    await one.names.routes.unmap_route(HOST)
    assert one.malformed == {}
    await one.names.routes.claim_route(HOST, SHOP)
    assert spaces(one) == {HOST: SHOP}


async def test_a_cell_that_is_removed_leaves_its_spaces_their_routes(cells: EtcdCells) -> None:
    one, two = cells.store("one"), cells.store("two")
    await cell(one, "one")
    await one.names.routes.claim_route(HOST, SHOP)
    await has(two, {HOST: SHOP})
    await cells.lapse(one, "one")
    await eventually_async(lambda: two._cells.alive_since("one") is None)
    await two.remove_cell("one", now=1.0)
    assert spaces(two) == {HOST: SHOP}
