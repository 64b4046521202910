"""What an etcd that stops, hangs, compacts or comes back changes on a cell: nothing that was known."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Unavailable
from agent.pacing import Backoff
from agent.store.database import Database
from agent.store.etcd import mirror
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import EtcdClient, absent, put, remove
from agent.store.etcd.disk_copy import DiskCopy
from agent.store.etcd.errors import NoSuchLease
from agent.store.etcd.store import EtcdStore
from agent.store.protocols import StoredPolicy
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.etcd import Etcd

NUMBERS = itertools.count()
NOW = 1_700_000_000.0
WEB, API = app("web"), app("api")
NETWORK = IPv4Network("10.255.0.0/16")
Make = Callable[[], EtcdStore]


@pytest.fixture
async def make(own: Etcd) -> AsyncIterator[Make]:
    """Another cell's store at each call."""
    async with contextlib.AsyncExitStack() as stack:

        def another() -> EtcdStore:
            client = EtcdClient(own.config, seconds=1.0)
            stack.push_async_callback(client.close)
            store = EtcdStore(client, prefix="/cellnet", cell=f"cell-{next(NUMBERS)}")
            stack.callback(asyncio.get_running_loop().create_task(store.run()).cancel)
            return store

        yield another


async def names(store: EtcdStore) -> list[str]:
    return [policy.name for policy in await store.policies()]


async def sees(store: EtcdStore, *expected: str) -> None:
    async def so() -> bool:
        return await names(store) == list(expected)

    await eventually_async(so)


async def test_what_one_cell_writes_every_cell_reads(make: Make) -> None:
    one, two = make(), make()
    await one.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "2")])
    await sees(two, "a", "b")
    await two.delete_policy("a")
    await sees(one, "b")


async def test_cells_that_start_at_once_get_subnets_and_tags_of_their_own(make: Make) -> None:
    cells = [make() for _ in range(50)]

    async def start(number: int) -> tuple[IPv4Network, int]:
        store = cells[number]
        subnet = await store.claim_subnet(f"cell-{number}", network=NETWORK, cell_prefix=24, now=NOW)
        tags = await store.claim_tags([app(f"a{number}")], now=NOW)
        return subnet, tags[app(f"a{number}")]

    got = await asyncio.gather(*map(start, range(50)))
    assert len({subnet for subnet, _ in got}) == len({tag for _, tag in got}) == 50
    assert await cells[7].claim_subnet("cell-7", network=NETWORK, cell_prefix=24, now=NOW) == got[7][0]


@pytest.mark.parametrize("outage", ["killed", "silent"])
async def test_an_outage_changes_nothing_that_was_known_and_ends_by_itself(own: Etcd, make: Make, outage: str) -> None:
    store = make()
    await store.apply_policies([StoredPolicy("a", "1")])
    tags = await store.claim_tags([WEB], now=NOW)
    own.kill() if outage == "killed" else own.freeze()
    assert await store.claim_tags([WEB], now=NOW) == tags
    with pytest.raises(Unavailable):
        await store.claim_tags([API], now=NOW)
    with pytest.raises(Unavailable):
        await store.apply_policies([StoredPolicy("b", "2")])
    assert await names(store) == ["a"]
    assert await store.tags() == tags
    own.start() if outage == "killed" else own.thaw()
    other = make()
    await other.apply_policies([StoredPolicy("c", "3")])
    await eventually_async(lambda: store.mirror.problem is None)

    async def comes() -> bool:
        return {"a", "c"} <= set(await names(store))

    await eventually_async(comes)


async def test_a_change_that_comes_with_the_end_of_an_outage_is_made(
    own: Etcd, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "Backoff", lambda: Backoff(first=60, longest=60))
    store = make()
    await store.apply_policies([StoredPolicy("a", "1")])
    own.kill()
    await eventually_async(lambda: store.mirror.problem is not None)
    own.start()
    await store.apply_policies([StoredPolicy("b", "2")])
    await store.delete_policy("a")
    assert await names(store) == ["b"]


async def test_what_was_compacted_without_a_watch_is_read_anew(own: Etcd, make: Make) -> None:
    store, other = make(), make()
    await store.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "1")])
    await sees(other, "a", "b")
    own.kill()
    await eventually_async(lambda: store.mirror.problem is not None)
    own.start()
    for number in range(5):
        own.ctl("put", "/elsewhere", str(number))
    own.ctl("del", "/cellnet/v1/policies/a")
    own.ctl("compact", own.ctl("get", "/x", "-w", "fields").split('"Revision" : ')[1].split()[0])
    await sees(store, "b")


async def test_a_compaction_between_two_pages_of_a_reading_begins_it_anew(own: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.store.etcd.client.PAGE", 2)
    client, pages = EtcdClient(own.config), 0
    for number in range(5):
        await client.commit(do=[put(f"/k/{number}", b"x")])
    call = client._call

    async def compacting(name: str, *asked: Any) -> Any:
        nonlocal pages
        pages += 1
        answer = await call(name, *asked)
        if pages == 1:
            revision = await client.commit(do=[put("/k/5", b"x")])
            own.ctl("compact", str(revision))
        return answer

    monkeypatch.setattr(client, "_call", compacting)
    assert len((await client.read("/k/")).values) == 6
    await client.close()


async def test_an_unreadable_record_is_named_and_left_out(own: Etcd, make: Make) -> None:
    store = make()
    await store.apply_policies([StoredPolicy("a", "1")])
    for key in ("policies/bad", "tags/apps/a/b/c", "claims/subnets/10.255.1.0"):
        own.ctl("put", f"/cellnet/v1/{key}", "not JSON")
    await eventually_async(lambda: len(store.malformed) == 3)
    assert await names(store) == ["a"]
    own.ctl("del", "/cellnet/v1/policies/bad")
    await eventually_async(lambda: len(store.malformed) == 2)


async def test_foreign_records_below_the_prefix_end_nothing(own: Etcd, make: Make) -> None:
    store = make()
    await store.apply_policies([StoredPolicy("a", "1")])
    await store.claim_tags([WEB], now=NOW)
    values = ("[" * 100_000, "NaN", '{"tag": true}', '{"tag": 1, "released": NaN}', "[1, [2]]", '{"prefix": [], "cell": 1}', "")
    places = (b"policies/x", b"tags/apps/a/b/c", b"tags/numbers/7", b"claims/subnets/10.255.1.", b"cells/c/apps", b"x/\xff\xfe")
    client = EtcdClient(own.config)
    for number, value in enumerate(values):
        keys = [b"/cellnet/v1/" + place + str(number).encode() for place in places]
        puts = [rpc.PutRequest(key=key, value=value.encode()) for key in keys]
        await client.commit(do=[rpc.RequestOp(request_put=each) for each in puts])
    await client.close()
    await store.apply_policies([StoredPolicy("b", "1")])
    assert await names(store) == ["a", "b"]
    assert await store.tags() == {WEB: 1}
    told = [each.what for each in store.problems()]
    assert len(told) == len(store.malformed) == 3 * len(values)


async def test_a_thousand_senseless_records_are_listed_and_more_are_counted(own: Etcd, make: Make) -> None:
    store, client = make(), EtcdClient(own.config)
    for start in range(0, 1100, 110):
        await client.commit(do=[put(f"/cellnet/v1/policies/x{number}", b"") for number in range(start, start + 110)])
    await client.close()
    await eventually_async(lambda: len(store.malformed) == 1100)
    told = [each.what for each in store.problems()]
    assert len(told) == 1001
    assert told[-1] == "100 more records in etcd make no sense"


async def test_a_key_cannot_speak_to_an_operators_terminal(own: Etcd, make: Make) -> None:
    store = make()
    await store.apply_policies([StoredPolicy("a", "1")])
    client = EtcdClient(own.config)
    put = rpc.PutRequest(key=b"/cellnet/v1/policies/\x1b[2Jall is well", value=b"not JSON")
    await client.commit(do=[rpc.RequestOp(request_put=put)])
    await client.close()
    await eventually_async(lambda: bool(store.malformed))
    (problem,) = store.problems()
    assert problem.what.isprintable()
    assert "all is well" in problem.what
    assert store.mirror.problem is None


async def test_a_claim_without_its_numbers_record_gives_no_app_anothers_tag(own: Etcd, make: Make) -> None:
    store = make()
    await store.claim_tags([WEB], now=NOW)
    own.ctl("put", f"/cellnet/v1/tags/apps/{API}", '{"tag": 1, "released": null}')
    await store.apply_policies([StoredPolicy("a", "1")])
    assert await store.tags() == {WEB: 1}
    assert await store.claim_tags([API], now=NOW) == {API: 2}
    assert await store.tags() == {WEB: 1, API: 2}


async def test_a_lease_that_is_not_kept_takes_its_records_along(own: Etcd, make: Make) -> None:
    client = EtcdClient(own.config)
    lease = await client.grant(1)
    await client.commit(when=[absent("/k")], do=[put("/k", b"1", lease=lease)])
    await client.keep(lease)
    assert (await client.read("/k")).values["/k"].lease == lease

    async def gone() -> bool:
        return not (await client.read("/k")).values

    await eventually_async(gone)
    with pytest.raises(NoSuchLease):
        await client.keep(lease)
    assert await client.commit(do=[remove("/k")])
    await client.close()


async def test_an_endpoint_that_is_dead_is_passed_over(own: Etcd, tmp_path: Path) -> None:
    dead = Etcd(tmp_path / "dead").endpoint
    config = type(own.config)(endpoints=(dead, own.endpoint))
    client = EtcdClient(config, seconds=1.0)
    assert (await client.read("/")).values == {}
    await client.close()


async def test_a_disk_that_knows_too_little_keeps_no_agent_from_its_subnet(own: Etcd, tmp_path: Path) -> None:
    """Killed before its first claim was written there: when it starts, no other cell has begun to follow etcd yet."""
    database, client = Database(tmp_path / "cell.db"), EtcdClient(own.config)
    disk_copy = DiskCopy(database)
    first = EtcdStore(client, prefix="/cellnet", cell="one", disk_copy=disk_copy)
    await first.mirror.refresh()
    assert disk_copy.load() is not None
    without = EtcdStore(client, prefix="/cellnet", cell="one")
    claimed = await without.claim_subnet("id", network=NETWORK, cell_prefix=24, now=NOW)
    again = EtcdStore(client, prefix="/cellnet", cell="one", disk_copy=DiskCopy(database))
    assert await again.claim_subnet("id", network=NETWORK, cell_prefix=24, now=NOW) == claimed
    new = EtcdStore(client, prefix="/cellnet", cell="two", disk_copy=DiskCopy(database))
    assert await new.claim_subnet("other", network=NETWORK, cell_prefix=24, now=NOW) != claimed
    await client.close()
    database.close()
