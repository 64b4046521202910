"""What is left of routes, claimed names and instances' numbers when etcd's data is lost."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from agent.errors import Conflict
from agent.model.cell import CellRecord, Endpoint
from agent.model.names import Space
from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.keys import Keys
from agent.store.etcd.names.records import IndexClaim, decode_index, encode_index, encode_route_claim
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.data_loss import LossyEtcd, StoreWithDisk
from tests.testlib.stores.shared import cell

WEB, API = app("web"), app("api")
SHOP, BLOG = Space.of(WEB), Space("acme", "blog")
KEYS = Keys("/cellnet")
CLAIMED, MAPPED, FREED, STOLEN = "claimed.apps.internal", "mapped.apps.internal", "freed.apps.internal", "stolen.apps.internal"
Cells = Callable[[str], StoreWithDisk]


@pytest.fixture
async def client(lossy: LossyEtcd) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(lossy.config)
    yield client
    await client.close()


@dataclass
class Deployment:
    """Two cells, of which the first runs an instance that has asked for routes."""

    one: StoreWithDisk
    two: StoreWithDisk
    record: CellRecord

    @property
    def each(self) -> tuple[StoreWithDisk, StoreWithDisk]:
        return self.one, self.two

    def spaces(self, of: StoreWithDisk) -> dict[str, Space]:
        return {host: route.space for host, route in of.store.names.routes.routes().items()}


@pytest.fixture
async def deployed(cells: Cells) -> Deployment:
    one, two = cells("one"), cells("two")
    record = await cell(one.store, "one")
    await cell(two.store, "two")
    for host in (CLAIMED, FREED, STOLEN):
        await one.store.names.routes.claim_route(host, SHOP)
    await one.store.names.routes.map_route(MAPPED, WEB)
    await one.store.names.routes.claim_names({"web.local": WEB})
    await one.store.names.indexes.claim_index(WEB, name="web", wanted=None, avoid=())
    await one.store.publish([Endpoint("one", "web", WEB, 0, record.subnet[2], routes=(CLAIMED, FREED, STOLEN))])
    await one.store.names.routes.unmap_route(FREED)
    found = Deployment(one, two, record)
    await eventually_async(
        lambda: found.spaces(two) == {CLAIMED: SHOP, STOLEN: SHOP, MAPPED: SHOP} and bool(two.store.endpoints())
    )
    return found


async def lose(lossy: LossyEtcd, *cells: StoreWithDisk) -> None:
    before = [each.store.mirror.data for each in cells]
    lossy.lose()
    for each, data in zip(cells, before, strict=True):
        await each.recovered(data)


async def test_a_loss_takes_no_name_from_its_owner_and_no_number(
    lossy: LossyEtcd, deployed: Deployment, cells: Cells, client: EtcdClient
) -> None:
    flaps: list[dict[str, Space]] = []
    known = deployed.spaces(deployed.one)
    for each in deployed.each:
        each.store.changes.subscribe(lambda: flaps.append(deployed.spaces(each)))
    await lose(lossy, *deployed.each)
    for each in deployed.each:
        assert deployed.spaces(each) == known
        assert each.store.names.routes.claimed_names() == {"web.local": WEB}
        held = "2 routes are held as the operator has mapped or freed them: freed.apps.internal, mapped.apps.internal"
        await eventually_async(lambda: held in each.told())
    assert all(each == known for each in flaps)
    fresh = cells("three")
    await fresh.well()
    assert deployed.spaces(fresh) == {CLAIMED: SHOP, STOLEN: SHOP}, "what was claimed is written back"
    assert fresh.store.names.routes.claimed_names() == {"web.local": WEB}
    with pytest.raises(Conflict, match="belongs to acme/shop"):
        await fresh.store.names.routes.claim_route(CLAIMED, BLOG)
    with pytest.raises(Conflict, match="taken by 'web' on cell one"):
        await fresh.store.names.indexes.claim_index(WEB, name="x", wanted=0, avoid=())


async def test_what_the_operator_maps_again_or_gives_up_is_no_longer_held(lossy: LossyEtcd, deployed: Deployment) -> None:
    await lose(lossy, *deployed.each)
    await deployed.two.store.names.routes.map_route(MAPPED, API)
    for each in deployed.each:
        await eventually_async(lambda: "1 routes are held" in each.told())
        await eventually_async(lambda: each.store.names.routes.routes()[MAPPED].apps == {WEB, API})
    await deployed.one.store.names.routes.map_route("new.apps.internal", WEB)
    await deployed.two.store.accept_loss()
    for each in deployed.each:
        await eventually_async(lambda: each.told() == "")
        assert deployed.spaces(each) == dict.fromkeys([CLAIMED, STOLEN, MAPPED, "new.apps.internal"], SHOP)


async def test_a_route_that_is_mapped_again_as_it_was_is_written(lossy: LossyEtcd, deployed: Deployment, cells: Cells) -> None:
    await lose(lossy, *deployed.each)
    await deployed.one.store.names.routes.map_route(MAPPED, WEB)
    fresh = cells("three")
    await eventually_async(lambda: MAPPED in deployed.spaces(fresh))


async def test_a_route_that_older_data_has_as_the_operator_maps_it_again_is_no_longer_held(
    lossy: LossyEtcd, cells: Cells
) -> None:
    one = cells("one")
    await one.store.names.routes.map_route(MAPPED, WEB)
    lossy.keep_copy()
    await one.well()
    await one.store.names.routes.unmap_route(MAPPED, WEB)
    before = one.store.mirror.data
    lossy.put_copy_back()
    await one.recovered(before)
    assert one.store.names.routes.routes()[MAPPED].apps == frozenset()
    await one.store.names.routes.map_route(MAPPED, WEB)
    assert one.store.names.routes.routes()[MAPPED].apps == {WEB}
    assert one.told() == ""


async def test_what_was_stolen_is_written_back_as_its_first_owners(
    lossy: LossyEtcd, deployed: Deployment, cells: Cells, client: EtcdClient
) -> None:
    key = KEYS.claimed_route(STOLEN)
    await client.commit(do=[put(key, encode_route_claim(BLOG, cell="nine"))])
    for each in deployed.each:
        await eventually_async(lambda: key in each.store.malformed)
    await lose(lossy, *deployed.each)
    fresh = cells("three")
    await eventually_async(lambda: deployed.spaces(fresh) == {CLAIMED: SHOP, STOLEN: SHOP})
    assert fresh.store.malformed == {}
    assert "was given to" not in deployed.one.told() + deployed.two.told()


async def test_older_data_gives_no_route_back_to_whose_it_was_and_says_so(
    lossy: LossyEtcd, cells: Cells, client: EtcdClient
) -> None:
    one = cells("one")
    record = await cell(one.store, "one")
    await one.store.names.routes.claim_route(CLAIMED, BLOG)
    lossy.keep_copy()
    await one.well()
    await one.store.names.routes.unmap_route(CLAIMED)
    await one.store.names.routes.claim_route(CLAIMED, SHOP)
    await one.store.publish([Endpoint("one", "web", WEB, 0, record.subnet[2], routes=(CLAIMED,))])
    before = one.store.mirror.data
    lossy.put_copy_back()
    await one.recovered(before)
    assert {host: route.space for host, route in one.store.names.routes.routes().items()} == {CLAIMED: SHOP}
    assert "routes/internal/apps/claimed of acme/shop was given to acme/blog while etcd's data was lost" in one.told()
    assert "acme/shop had it first" in one.told()


async def test_a_number_that_went_to_another_while_the_data_was_lost_is_named(
    lossy: LossyEtcd, deployed: Deployment, client: EtcdClient
) -> None:
    await deployed.one.stop()
    await deployed.two.stop()
    lossy.lose()
    await client.commit(do=[put(KEYS.index(WEB, 0), encode_index(IndexClaim("two", "x")))])
    two = deployed.two.start()
    await two.store.publish([Endpoint("two", "x", WEB, 0, deployed.record.subnet[3])])
    one = deployed.one.start()
    await one.well()
    await one.store.announce(deployed.record)
    await one.store.publish([Endpoint("one", "web", WEB, 0, deployed.record.subnet[2])])
    await eventually_async(lambda: "instance 0 of acme/shop/web is 'web' here and 'x' on cell two" in one.told())
    found = (await client.read(KEYS.index(WEB, 0))).values
    assert decode_index(found[KEYS.index(WEB, 0)]) == IndexClaim("two", "x")
