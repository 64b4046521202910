"""Instances' numbers on a real etcd: no two instances of an app get one, and none is lost for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from agent.errors import Conflict
from agent.model.cell import CellRecord, Endpoint
from agent.model.names import AppName
from agent.store.etcd.client import EtcdClient, Reading, put, remove
from agent.store.etcd.heartbeat import Timing
from agent.store.etcd.names import index_claims
from agent.store.etcd.names.records import IndexClaim, decode_index, encode_index
from agent.store.etcd.store import EtcdStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.etcd import Etcd
from tests.testlib.stores.shared import NOW, EtcdCells, cell

WEB = app("web")
SOON = Timing(again=0.1)


@pytest.fixture
async def cells(etcd: Etcd) -> AsyncIterator[EtcdCells]:
    async with contextlib.AsyncExitStack() as stack:
        yield EtcdCells(etcd, stack, timing=SOON)


@pytest.fixture
async def client(etcd: Etcd) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(etcd.config)
    yield client
    await client.close()


def instance(record: CellRecord, name: str, index: int, *, of: AppName = WEB) -> Endpoint:
    return Endpoint(record.name, name, of, index, record.subnet[index + 2])


async def take(store: EtcdStore, name: str, *, wanted: int | None = None, of: AppName = WEB) -> int:
    return await store.names.indexes.claim_index(of, name=name, wanted=wanted, avoid=())


async def claims(cells: EtcdCells, client: EtcdClient) -> dict[int, IndexClaim]:
    """What etcd has of the app."""
    prefix = f"{cells.keys.indexes}{WEB}/"
    found = (await client.read(prefix)).values
    return {int(key.removeprefix(prefix)): decode_index(value) for key, value in found.items()}


async def there(cells: EtcdCells, client: EtcdClient, expected: dict[int, IndexClaim]) -> None:
    async def so() -> bool:
        return await claims(cells, client) == expected

    await eventually_async(so)


async def alive(store: EtcdStore, *names: str) -> None:
    await eventually_async(lambda: {each for each in store._cells.names if store._cells.alive_since(each)} == set(names))


async def test_each_cell_knows_which_has_claimed_a_number_and_hears_of_changes_once(
    cells: EtcdCells, client: EtcdClient
) -> None:
    store, other = cells.store("cell-0"), cells.store("cell-1")
    heard: list[None] = []
    other.changes.subscribe(lambda: heard.append(None))
    await take(store, "web")
    indexes, key = other.names.indexes, cells.keys.index(WEB, 0)
    await eventually_async(lambda: indexes.claimant(WEB, 0) == "cell-0")
    assert heard
    assert indexes.take_claimed() == {(WEB, 0)}
    assert not indexes.take_claimed()
    await client.commit(when=[], do=[put(key, encode_index(IndexClaim("cell-9", "evil")))])
    await eventually_async(lambda: indexes.claimant(WEB, 0) == "cell-9")
    assert indexes.take_claimed() == {(WEB, 0)}
    await client.commit(when=[], do=[remove(key)])
    await eventually_async(lambda: indexes.claimant(WEB, 0) is None)
    assert indexes.take_claimed() == {(WEB, 0)}


async def test_instances_that_are_attached_at_once_on_all_cells_get_numbers_of_their_own(cells: EtcdCells) -> None:
    stores = [cells.store(f"cell-{number}") for number in range(5)]
    got = await asyncio.gather(*(take(store, f"web-{number}") for store in stores for number in range(8)))
    assert sorted(got) == list(range(40))
    wanted = await asyncio.gather(*(take(store, "w", wanted=77) for store in stores), return_exceptions=True)
    assert [each for each in wanted if isinstance(each, int)] == [77]
    assert len([each for each in wanted if isinstance(each, Conflict)]) == 4


async def test_a_number_costs_one_transaction(cells: EtcdCells, monkeypatch: pytest.MonkeyPatch) -> None:
    store = cells.store("one")
    await take(store, "first")
    await eventually_async(lambda: store.mirror.following)
    asked, call = list[str](), EtcdClient._call

    async def noting(self: EtcdClient, name: str, *words: object) -> object:
        asked.append(name)
        return await call(self, name, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(EtcdClient, "_call", noting)
    assert await take(store, "second") == 1
    assert asked == ["KV/Txn"]


async def test_a_number_that_is_given_back_is_free_on_all_cells(cells: EtcdCells, client: EtcdClient) -> None:
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    assert await take(one, "a") == 0
    await one.publish([instance(first, "a", 0)])
    with pytest.raises(Conflict, match="instance 0 of acme/shop/web is taken by 'a' on cell one"):
        await take(two, "b", wanted=0)
    await one.publish([])
    await one.names.indexes.release_index(WEB, 0, name="a")
    await there(cells, client, {})
    await eventually_async(lambda: not two._cells.endpoints)
    assert await take(two, "b") == 0
    assert await take(one, "c") == 1


async def test_a_number_waits_for_its_attachment_and_is_taken_over_when_that_never_comes(
    cells: EtcdCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = cells.store("one"), cells.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    await alive(two, "one", "two")
    assert [await take(one, "a"), await take(one, "b")] == [0, 1]
    await one.publish([instance(first, "a", 0), instance(first, "b", 1)])
    assert await take(two, "c") == 2
    await two.publish([instance(second, "c", 2)])
    monkeypatch.setattr(index_claims, "PENDING", 0.0)
    with pytest.raises(Conflict, match="on cell one"):
        await take(two, "d", wanted=0)
    await cells.stop(one)  # the agent is killed, and what it has published goes, but its lease holds for a while
    await EtcdClient(cells.etcd.config).commit(do=[remove(cells.keys.endpoints_of("one") + "a")])
    await eventually_async(lambda: len(two.endpoints()) == 2)
    assert await take(two, "d") == 0
    with pytest.raises(Conflict, match="instance 1 of acme/shop/web is taken by 'b' on cell one"):
        await take(two, "e", wanted=1)


async def test_a_dead_cell_keeps_its_numbers_until_it_is_removed(
    cells: EtcdCells, client: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_claims, "PENDING", 0.0)
    one, two = cells.store("one"), cells.store("two")
    first = await cell(one, "one")
    for number in range(3):
        await take(one, f"web-{number}")
    await one.publish([instance(first, f"web-{number}", number) for number in range(3)])
    await cell(two, "two")
    await alive(two, "one", "two")
    await cells.lapse(one, "one")
    await alive(two, "two")
    with pytest.raises(Conflict, match="taken by 'web-0' on cell one") as refused:
        await take(two, "a", wanted=0)
    assert "`cellnet cell remove one` frees" in refused.value.hint
    assert await take(two, "a") == 3
    await two.remove_cell("one", now=NOW)
    assert await claims(cells, client) == {3: IndexClaim("two", "a")}
    assert await take(two, "b") == 0


async def test_a_claim_of_a_cell_that_is_not_there_holds_nothing_for_long(
    cells: EtcdCells, client: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cells.store("one")
    await client.commit(do=[put(cells.keys.index(WEB, 0), encode_index(IndexClaim("ghost", "x")))])
    await client.commit(do=[put(cells.keys.index(WEB, 1), b"nonsense")])
    await eventually_async(lambda: cells.keys.index(WEB, 1) in one.malformed)
    assert await take(one, "a") == 1, "it may be that of a cell that comes"
    monkeypatch.setattr(index_claims, "PENDING", 0.0)
    assert await take(one, "b") == 0
    await eventually_async(lambda: one.malformed == {})


async def test_a_cells_own_claims_are_kept_up_and_what_lies_about_it_goes(cells: EtcdCells, client: EtcdClient) -> None:
    one = cells.store("one")
    first = await cell(one, "one")
    await take(one, "a")
    await one.publish([instance(first, "a", 0)])
    mine, key = {0: IndexClaim("one", "a")}, cells.keys.index(WEB, 0)
    await there(cells, client, mine)
    await client.commit(do=[remove(key)])
    await there(cells, client, mine)
    lies = [put(cells.keys.index(WEB, number), encode_index(IndexClaim("one", "x"))) for number in range(3)]
    await client.commit(do=lies)
    await there(cells, client, mine)


async def test_a_reserved_number_is_claimed_whether_its_attachment_runs_or_not(cells: EtcdCells, client: EtcdClient) -> None:
    store = cells.store("cell-0")
    await cell(store, "cell-0")
    mine = IndexClaim("cell-0", "web")
    store.names.indexes.set_reserved({(WEB, 3): "web"})
    await store.publish(())
    await there(cells, client, {3: mine})
    await client.commit(do=[remove(cells.keys.index(WEB, 3))])
    await there(cells, client, {3: mine})
    await eventually_async(lambda: not list(store.names.indexes.plans()))
    with pytest.raises(Conflict, match="'web'"):
        await take(store, "other", wanted=3)
    assert await take(store, "web", wanted=3) == 3
    await store.names.indexes.release_index(WEB, 3, name="web")
    store.names.indexes.set_reserved({})
    await there(cells, client, {})


async def test_containers_that_were_there_before_get_their_claims(cells: EtcdCells, client: EtcdClient) -> None:
    one = cells.store("one")
    first = await cell(one, "one")
    await one.publish([instance(first, "a", 0), instance(first, "b", 3)])
    await there(cells, client, {0: IndexClaim("one", "a"), 3: IndexClaim("one", "b")})


async def test_a_restarted_agent_goes_on_with_its_numbers_and_gives_back_what_a_crash_has_left(
    cells: EtcdCells, client: EtcdClient
) -> None:
    one = cells.store("one")
    first = await cell(one, "one")
    assert [await take(one, "a"), await take(one, "never")] == [0, 1]
    await one.publish([instance(first, "a", 0)])
    await there(cells, client, {0: IndexClaim("one", "a"), 1: IndexClaim("one", "never")})
    await cells.stop(one)
    again = cells.store("one")
    await again.announce(first)
    assert await take(again, "a", wanted=0) == 0
    await again.publish([instance(first, "a", 0)])
    await there(cells, client, {0: IndexClaim("one", "a")})


async def test_a_number_taken_in_an_outage_is_claimed_afterwards_and_a_clash_is_reported(
    own: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        cells = EtcdCells(own, stack, timing=SOON, seconds=0.5)
        one = cells.store("one")
        first = await cell(one, "one")
        await take(one, "a")
        await one.publish([instance(first, "a", 0)])
        own.kill()
        assert await take(one, "b") == 1
        await eventually_async(lambda: one.mirror.problem is not None)
        assert await take(one, "c") == 2
        with pytest.raises(Conflict, match="instance 1 of acme/shop/web is taken by 'b'"):
            await take(one, "d", wanted=1)
        await one.names.indexes.release_index(WEB, 0, name="a")
        assert await take(one, "d") == 0
        client = EtcdClient(own.config)
        stack.push_async_callback(client.close)
        gate, read = asyncio.Event(), one.mirror.refresh

        async def refresh() -> Reading:
            await gate.wait()
            return await read()

        monkeypatch.setattr(one.mirror, "refresh", refresh)  # what ends the outage for one has another cell's changes, too
        own.start()
        two = cells.store("two")
        await cell(two, "two")
        gate.set()
        await eventually_async(lambda: one.mirror.problem is None)
        await there(cells, client, {0: IndexClaim("one", "d"), 1: IndexClaim("one", "b"), 2: IndexClaim("one", "c")})
        assert one.problems() == ()


async def test_two_cells_that_took_one_number_apart_from_each_other_say_so(cells: EtcdCells, client: EtcdClient) -> None:
    one, two = cells.store("one"), cells.store("two")
    first, second = await cell(one, "one"), await cell(two, "two")
    await one.publish([instance(first, "a", 0)])
    await there(cells, client, {0: IndexClaim("one", "a")})
    await two.publish([instance(second, "b", 0)])
    words = "instance 0 of acme/shop/web is 'b' here and 'a' on cell one"
    await eventually_async(lambda: words in [each.what for each in two.problems()])
    assert one.problems() == ()
    await one.publish([])
    await there(cells, client, {0: IndexClaim("two", "b")})
    await eventually_async(lambda: two.problems() == ())


async def test_a_flood_of_claims_to_numbers_is_named_and_keeps_none_from_others_for_long(
    cells: EtcdCells, client: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, liar = cells.store("one"), cells.store("liar")
    await cell(one, "one")
    await cell(liar, "liar")
    await cells.stop(liar)
    await alive(one, "liar", "one")
    made = [put(cells.keys.index(WEB, number), encode_index(IndexClaim("liar", "x"))) for number in range(2_000)]
    for start in range(0, len(made), 100):
        await client.commit(do=made[start : start + 100])
    flood = "cell liar has claimed 2000 instances' numbers, as the claims say, and has room for 0 containers"
    await eventually_async(lambda: flood in [each.what for each in one.problems()])
    assert await take(one, "a") == 2_000
    monkeypatch.setattr(index_claims, "PENDING", 0.0)
    assert await take(one, "b") == 0
