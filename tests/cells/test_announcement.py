"""A cell among others: which it takes for peers, what it announces of itself, and that it goes on until it is heard."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cells.announcement import Announcement
from agent.cells.peers import Peers
from agent.config.config import Mtls
from agent.errors import Conflict, Unavailable
from agent.model.attachment import Attachment, Phase
from agent.model.cell import CellRecord, Endpoint, RootsInUse
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.samples import API, FIRST, ROUTE_DOMAINS, SECOND, WEB, attachment

OVERLAY, MINE, THEIRS = (IPv4Network(each) for each in ("10.255.0.0/16", "10.255.1.0/24", "10.255.2.0/24"))
HERE, THERE, ELSEWHERE = (IPv4Address(f"10.77.0.{number}") for number in (1, 2, 9))


def record(name: str = "one", subnet: IPv4Network = MINE, underlay: IPv4Address = HERE) -> CellRecord:
    return CellRecord(name, f"id of {name}", subnet, underlay, "0.1.0")


class Deaf(MemoryStore):
    """Hears nothing for as long as `deaf`. Like a store of many cells it writes later what it was given last."""

    deaf = True
    last_record: CellRecord | None = None
    last_endpoints: tuple[Endpoint, ...] | None = None

    async def announce(self, record: CellRecord) -> None:
        self.last_record = record
        if self.deaf:
            raise Unavailable("no answer")
        await super().announce(record)

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        self.last_endpoints = tuple(endpoints)
        if self.deaf:
            raise Unavailable("no answer")
        await super().publish(endpoints)


def announcement(store: MemoryStore) -> Announcement:
    return Announcement(store, lambda address: record(underlay=address), cell="one", domains=ROUTE_DOMAINS)


async def test_what_changes_of_its_roots_is_announced_and_outlasts_a_change_of_address() -> None:
    store = MemoryStore()
    made, roots = announcement(store), RootsInUse(("a",), ("b",))
    async with announcing(made):
        made.set_roots(roots)
        made.update((), ready=(), underlay=HERE)
        await so(lambda: store._all.records.get("one") == replace(record(), roots=roots))
        made.set_roots(RootsInUse(("a", "b"), ("b",)))
        made.update((), ready=(), underlay=THERE)
        await so(lambda: store._all.records["one"] == replace(record(underlay=THERE), roots=RootsInUse(("a", "b"), ("b",))))


@contextlib.asynccontextmanager
async def announcing(made: Announcement) -> AsyncIterator[None]:
    """While it announces."""
    task = asyncio.get_running_loop().create_task(made.run())
    try:
        yield
    finally:
        task.cancel()


async def so(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it does not come")


async def heard(store: MemoryStore, *apps: str) -> None:
    await so(lambda: {str(each.app) for each in store.endpoints().values()} == set(apps))


async def test_other_cells_are_peers_whether_they_are_alive_or_not() -> None:
    store = MemoryStore()
    other = store.beside()
    await store.announce(record())
    await other.announce(record("two", THEIRS, THERE))
    peers = Peers(store, name="one", overlay=OVERLAY, subnet=MINE)
    assert await peers.routes() == {THEIRS: THERE}
    routes = await peers.routes()
    other.lapse()
    assert await peers.routes() is routes
    assert [each.alive_since for each in peers.all] == [None]


async def test_a_cell_takes_tunnels_or_not_by_its_own_last_word_alive_or_not() -> None:
    store = MemoryStore()
    other = store.beside()
    await store.announce(record())
    peers = Peers(store, name="one", overlay=OVERLAY, subnet=MINE)
    for mtls, plain in ((Mtls.NONE, {THEIRS}), (Mtls.ACCEPT, set()), (Mtls.STRICT, set()), (Mtls.NONE, {THEIRS})):
        await other.announce(replace(record("two", THEIRS, THERE), mtls=mtls))
        await peers.routes()
        assert peers.without_tunnels == plain
        other.lapse()
        await peers.routes()
        assert peers.without_tunnels == plain


@pytest.mark.parametrize("subnet", ["10.255.2.0/24", "10.255.2.0/26", "10.255.2.0/23"])
async def test_an_address_is_its_cells_whatever_the_size_of_that_cells_part(subnet: str) -> None:
    store, part = MemoryStore(), IPv4Network(subnet)
    await store.announce(record("two", part, THERE))
    peers = Peers(store, name="one", overlay=OVERLAY, subnet=MINE)
    await peers.routes()
    owners = [peers.owner(address) for address in (part[2], part[-2], part[0] - 1, part[-1] + 1)]
    assert [each and each.record.name for each in owners] == ["two", "two", None, None]


@pytest.mark.parametrize("subnet", ["10.255.0.0/16", "10.255.1.0/25", "192.0.2.0/24", "0.0.0.0/0"])
async def test_a_cell_that_claims_what_is_ours_or_the_worlds_is_no_peer(subnet: str) -> None:
    store = MemoryStore()
    await store.announce(record("two", IPv4Network(subnet), THERE))
    peers = Peers(store, name="one", overlay=OVERLAY, subnet=MINE)
    assert (await peers.routes(), peers.all) == ({}, ())


async def test_a_cell_announces_its_address_and_its_containers() -> None:
    store = MemoryStore()
    made = announcement(store)
    web, half = attachment(WEB, address=FIRST), attachment(API, address=SECOND, phase=Phase.ATTACHING)
    async with announcing(made):
        made.update((web, half), ready=(), underlay=HERE)
        await heard(store, str(WEB))
        assert [each.record for each in await store.cells()] == [record()]
        made.update((web, attachment(API, address=SECOND)), ready=(), underlay=ELSEWHERE)
        await heard(store, str(WEB), str(API))
        assert [each.record for each in await store.cells()] == [record(underlay=ELSEWHERE)]
        made.update((), ready=(), underlay=ELSEWHERE)
        await heard(store)


async def test_a_cell_announces_how_it_takes_tcp_when_that_changes() -> None:
    store, mode = MemoryStore(), Mtls.NONE
    made = Announcement(store, lambda address: replace(record(underlay=address), mtls=mode), cell="one", domains=ROUTE_DOMAINS)
    async with announcing(made):
        for mode in (Mtls.NONE, Mtls.ACCEPT, Mtls.NONE):
            made.update((), ready=(), underlay=HERE)
            await so(lambda: made.announced is not None and made.announced.mtls is mode)
            assert [each.record.mtls for each in await store.cells()] == [mode]


async def test_a_route_that_may_no_longer_be_is_not_announced() -> None:
    store = MemoryStore()
    made = announcement(store)
    web = replace(attachment(WEB, address=FIRST), routes=("web.apps.internal", "web.former.internal"))
    async with announcing(made):
        made.update((web,), ready=(), underlay=HERE)
        await heard(store, str(WEB))
        assert [each.routes for each in store.endpoints().values()] == [("web.apps.internal",)]


async def test_whether_names_lead_to_a_container_is_announced_each_time_that_it_changes() -> None:
    store = MemoryStore()
    made = announcement(store)
    web, api = attachment(WEB, address=FIRST), attachment(API, address=SECOND)
    async with announcing(made):
        for ready in ((), (web,), (web, api), (api,)):
            made.update((web, api), ready=ready, underlay=HERE)
            await so(lambda: {each.app for each in store.endpoints().values() if each.ready} == {each.app for each in ready})
            await heard(store, str(API), str(WEB))


async def test_a_failed_announcement_is_repeated() -> None:
    store = Deaf()
    made = announcement(store)
    async with announcing(made):
        made.update((attachment(WEB, address=FIRST),), ready=(), underlay=HERE)
        await so(lambda: made.problem is not None)
        store.deaf = False
        await heard(store, str(WEB))
        assert made.problem is None


async def test_what_came_and_went_while_the_store_did_not_answer_is_not_what_it_was_given_last() -> None:
    store = Deaf()
    store.deaf = False
    made = announcement(store)
    async with announcing(made):
        made.update((), ready=(), underlay=HERE)
        await so(lambda: store.last_endpoints == ())
        store.deaf = True
        made.update((attachment(WEB, address=FIRST),), ready=(), underlay=HERE)
        await so(lambda: store.last_endpoints != ())
        made.update((), ready=(), underlay=ELSEWHERE)
        await so(lambda: store.last_record == record(underlay=ELSEWHERE))
        made.update((), ready=(), underlay=HERE)
        store.deaf = False
        await so(lambda: (store.last_record, store.last_endpoints) == (record(), ()))
        await so(lambda: made.problem is None)


async def test_a_name_that_is_another_machines_is_refused() -> None:
    store = MemoryStore()
    await store.announce(CellRecord("one", "another id", THEIRS, THERE, "0.1.0"))
    made = announcement(store.beside())
    made.update((), ready=(), underlay=HERE)
    with pytest.raises(Conflict):
        await made.announce()


async def test_a_cell_without_an_underlay_announces_nothing() -> None:
    store = MemoryStore()
    made = announcement(store)
    made.update(_one(), ready=(), underlay=None)
    async with announcing(made):
        await asyncio.sleep(0.05)
        assert await store.cells() == ()
        made.update(_one(), ready=(), underlay=HERE)
        await heard(store, str(WEB))


def _one() -> tuple[Attachment, ...]:
    return (attachment(WEB, address=FIRST),)


containers = st.tuples(st.sampled_from(Phase), st.integers(2, 4), st.booleans())


@given(st.lists(st.dictionaries(st.sampled_from(["web", "api", "job"]), containers)))
def test_what_is_announced_of_containers_is_what_a_cell_without_a_memory_would_announce(
    walk: list[dict[str, tuple[Phase, int, bool]]],
) -> None:
    made, known = announcement(MemoryStore()), dict[tuple[str, Phase, int], Attachment]()
    for now in walk:
        found = [
            known.setdefault((name, phase, number), attachment(WEB, name=name, address=MINE[number], phase=phase))
            for name, (phase, number, _) in now.items()
        ]
        fresh = announcement(MemoryStore())
        for each in (made, fresh):
            each.update(tuple(found), ready=tuple(each for each in found if now[each.name][2]), underlay=HERE)
        assert made._endpoints == fresh._endpoints
        assert {each.name for each in fresh._endpoints if each.ready} == {
            each.name for each in found if each.phase is Phase.ATTACHED and now[each.name][2]
        }
        assert {each.name for each in fresh._endpoints} == {each.name for each in found if each.phase is Phase.ATTACHED}
