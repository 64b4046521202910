"""What becomes of the routes that an attach asks for: taken, claimed, or refused with what can be done about it."""

import pytest

from agent.attach.asked_routes import AskedRoutes
from agent.config.config import Dns
from agent.errors import Conflict, InvalidInput, Unavailable
from agent.identity.names import NamesHeld, Naming
from agent.model.names import AppName, Space
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.samples import app

WEB, API, FOREIGN = app("web"), app("api"), AppName("acme", "other", "web")
SHOP = Space("acme", "shop")
HOST = "shop.apps.internal"


class InOutage(MemoryStore):
    """One that knows what it knew, and takes nothing."""

    async def claim_route(self, host: str, space: Space) -> None:
        raise Unavailable("no answer")


def asked(store: MemoryStore, *, may_claim: bool = True) -> AskedRoutes:
    return AskedRoutes(store, Naming(Dns(), lambda: NamesHeld(store.routes(), {})), may_claim=may_claim)


async def test_a_free_route_is_claimed_for_the_space_whose_apps_share_it() -> None:
    store = MemoryStore()
    await asked(store).take(WEB, [HOST, "b.apps.internal"])
    assert {host: route.space for host, route in store.routes().items()} == {HOST: SHOP, "b.apps.internal": SHOP}
    before = store.routes()
    await asked(store).take(API, [HOST])
    await asked(store, may_claim=False).take(API, [HOST])
    assert store.routes() is before


@pytest.mark.parametrize("host", [HOST, f"a.{HOST}"])
@pytest.mark.parametrize("may_claim", [True, False])
async def test_another_spaces_is_refused_whether_claims_are_allowed_or_not(host: str, may_claim: bool) -> None:
    store = MemoryStore()
    await store.claim_route(HOST, SHOP)
    with pytest.raises(Conflict, match="acme/shop") as refused:
        await asked(store, may_claim=may_claim).take(FOREIGN, [host])
    assert f"cellnet route unmap {HOST}" in refused.value.hint


async def test_where_attaches_claim_nothing_a_route_has_to_be_mapped_first() -> None:
    store = MemoryStore()
    routes = asked(store, may_claim=False)
    with pytest.raises(Conflict, match="is mapped to no app of acme/shop") as refused:
        await routes.take(WEB, [HOST])
    assert f"`cellnet route map acme/shop/web {HOST}`" in refused.value.hint
    assert "routes.claim_at_attach" in refused.value.hint
    await store.map_route(HOST, WEB)
    await routes.take(WEB, [HOST])
    await routes.take(API, [HOST])  # of the same space


@pytest.mark.parametrize("may_claim", [True, False])
async def test_what_the_operator_has_taken_from_an_app_it_does_not_get_by_asking(may_claim: bool) -> None:
    store = MemoryStore()
    await store.map_route(HOST, WEB)
    await store.unmap_route(HOST, WEB)
    with pytest.raises(Conflict, match="the operator has taken the route") as refused:
        await asked(store, may_claim=may_claim).take(WEB, [HOST])
    assert refused.value.hint == f"`cellnet route map acme/shop/web {HOST}`"
    await asked(store, may_claim=may_claim).take(API, [HOST])


async def test_in_an_outage_a_route_that_is_the_spaces_is_taken_and_a_new_one_refused() -> None:
    store = InOutage()
    await store.map_route(HOST, WEB)
    await asked(store).take(WEB, [HOST])
    with pytest.raises(Unavailable):
        await asked(store).take(WEB, [HOST, "new.apps.internal"])


@pytest.mark.parametrize(
    ("host", "what"),
    [
        ("web.example.org", "below no route domain"),
        ("a.cell.internal", "own names"),
        ("7.apps.internal", "begins with a number"),
    ],
)
def test_names_that_no_app_here_can_have_are_refused_before_anything_is_asked(host: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        asked(MemoryStore()).require(["ok.apps.internal", host])


async def test_routes_that_the_certificate_has_no_room_for_are_refused_and_none_of_them_is_claimed() -> None:
    store = MemoryStore()
    many = [f"r{number:03}-{'x' * 50}.{'y' * 60}.apps.internal" for number in range(256)]
    with pytest.raises(Conflict, match=r"of acme/shop/web has no room for r\d{3}-x") as refused:
        await asked(store).take(WEB, many)
    assert len(store.routes()) == 0
    assert "beside 2" in refused.value.what
    await asked(store).take(WEB, many[:200])
    await asked(store).take(WEB, many[:200])
    assert len(store.routes()) == 200
