"""Reserved places: numbers and routes are the name's from then on, and a cell with another subnet gives others."""

import asyncio
from collections import defaultdict
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.attach.asked_routes import AskedRoutes
from agent.attach.reserved_places import ReservedPlaces
from agent.errors import Conflict
from agent.model.names import Space
from agent.model.reservation import Reservation
from agent.store.ledger import Ledger
from tests.testlib.beds.attach import holders
from tests.testlib.beds.environment import container_files
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.samples import API, NAMING, OWNER, WEB, request


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def places(tmp_path: Path, ledger: Ledger, store: MemoryStore) -> ReservedPlaces:
    locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    return ReservedPlaces(
        ledger, holders(ledger), store, AskedRoutes(store, NAMING, may_claim=True), container_files(tmp_path, ledger),
        locks.__getitem__,
    )  # fmt: skip


def number_of(made: Reservation) -> int:
    assert made.place is not None
    return made.place.instance


async def test_each_has_a_number_of_its_own_until_it_is_released(places: ReservedPlaces, store: MemoryStore) -> None:
    assert [number_of(await places.reserve(Reservation(name, WEB))) for name in ("a", "b")] == [0, 1]
    assert await places.release("a")
    assert number_of(await places.reserve(Reservation("b", WEB))) == 1
    with pytest.raises(Conflict):
        await places.reserve(Reservation("c", WEB, instance=1))
    assert await places.release("b")
    assert not await places.release("b")
    assert number_of(await places.reserve(Reservation("c", WEB, instance=1))) == 1
    assert await store.claim_index(WEB, name="d", wanted=None, avoid=()) == 0


async def test_reserved_again_it_gets_another_number_where_another_cell_has_taken_its_own(
    places: ReservedPlaces, store: MemoryStore
) -> None:
    first = await places.reserve(Reservation("web", WEB))
    await store.release_index(WEB, 0, name="web")
    await store.beside().claim_index(WEB, name="theirs", wanted=0, avoid=())
    again = await places.reserve(Reservation("web", WEB))
    assert first.place is not None
    assert again.place is not None
    assert (number_of(again), again.place.address) == (1, first.place.address)


async def test_a_route_is_claimed_when_it_is_reserved(places: ReservedPlaces, store: MemoryStore) -> None:
    await places.reserve(Reservation("a", WEB, routes=("shop.apps.internal",)))
    assert store.routes()["shop.apps.internal"].space == Space.of(WEB)


async def test_one_that_is_released_while_it_is_attached_keeps_its_number_and_files(
    places: ReservedPlaces, store: MemoryStore, ledger: Ledger
) -> None:
    await places.reserve(Reservation("web", WEB))
    ledger.begin(request("web"), owner=OWNER)
    assert ledger.all()[0].app == WEB
    await places.files.write(ledger.all()[0])
    assert await places.release("web")
    assert places.files.paths("web").environment.exists()
    with pytest.raises(Conflict):
        await store.claim_index(WEB, name="other", wanted=0, avoid=())


async def test_a_cell_with_another_subnet_gives_other_addresses_and_the_same_numbers(
    places: ReservedPlaces, ledger: Ledger
) -> None:
    for name, app in (("a", WEB), ("b", WEB), ("c", API)):
        await places.reserve(Reservation(name, app))
    subnet = IPv4Network("10.255.9.0/24")
    ledger.adopt_subnet(subnet)
    places.recover()
    made = [each.place for each in places.all().values()]
    assert [each.instance for each in made if each is not None and each.address in subnet] == [0, 1, 0]
