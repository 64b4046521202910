"""What every store promises of routes, claimed names and instances' numbers, asked of each in the same words."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import Conflict, HostRefused, InvalidInput, NotFound
from agent.model.names import Space
from agent.model.routes import Route, routes_of
from agent.store.changes import Changes
from agent.store.database import Database
from agent.store.lone_names import LoneNames
from agent.store.protocols import IndexStore, RouteStore
from agent.store.schema import MIGRATIONS, migrate
from tests.testlib import disks
from tests.testlib.samples import app

WEB, API, BLOG = app("web"), app("api"), app("blog/web")
SHOP, OTHER = Space.of(WEB), Space.of(BLOG)
HOST = "backend.apps.internal"


async def test_a_route_is_the_spaces_that_claimed_it_first(routes: RouteStore) -> None:
    await routes.claim_route(HOST, SHOP)
    await routes.claim_route(HOST, SHOP)
    assert dict(routes.routes()) == {HOST: Route(HOST, SHOP)}
    with pytest.raises(Conflict, match=r"the route backend\.apps\.internal belongs to acme/shop") as refused:
        await routes.claim_route(HOST, OTHER)
    assert refused.value.hint == f"choose another name, or have the operator free it: `cellnet route unmap {HOST}`"
    assert dict(routes.routes()) == {HOST: Route(HOST, SHOP)}


@pytest.mark.parametrize(
    ("host", "what"),
    [
        ("a.b.backend.apps.internal", "lies below backend.apps.internal, of acme/shop"),
        ("apps.internal", "lies above backend.apps.internal, of acme/shop"),
    ],
)
async def test_what_lies_above_and_below_a_route_is_its_spaces_too(routes: RouteStore, host: str, what: str) -> None:
    await routes.claim_route(HOST, SHOP)
    with pytest.raises(Conflict, match=f"the route {host} {what}"):
        await routes.claim_route(host, OTHER)
    await routes.claim_route(host, SHOP)
    assert routes.routes().keys() == {HOST, host}


async def test_a_name_that_only_ends_or_begins_alike_is_another(routes: RouteStore) -> None:
    others = (f"other{HOST}", "backend2.apps.internal", "backend-2.apps.internal", "backend.apps2.internal")
    await routes.claim_route(HOST, SHOP)
    for other in others:
        await routes.claim_route(other, OTHER)
    assert routes.routes().keys() == {HOST, *others}
    await routes.unmap_route(HOST)
    await routes.claim_route(HOST, SHOP)
    assert routes.routes().keys() == {HOST, *others}


async def test_a_claim_that_the_operator_frees_is_gone(routes: RouteStore) -> None:
    await routes.claim_route(HOST, SHOP)
    await routes.unmap_route(HOST)
    assert not routes.routes()
    await routes.claim_route(f"a.{HOST}", OTHER)
    await routes.map_route(f"a.{HOST}", BLOG)
    await routes.unmap_route(f"a.{HOST}", BLOG)
    assert routes_of(BLOG, [f"a.{HOST}"], routes.routes()) == ()
    await routes.unmap_route(f"a.{HOST}")
    assert not routes.routes()


@pytest.mark.parametrize(
    "host", ["0.backend.apps.internal", "17.apps.internal", "Backend.apps.internal", "*.apps.internal", "a"]
)
async def test_a_name_that_can_be_no_route_is_refused(routes: RouteStore, host: str) -> None:
    with pytest.raises(InvalidInput):
        await routes.claim_route(host, SHOP)
    with pytest.raises(InvalidInput):
        await routes.map_route(host, WEB)
    assert not routes.routes()


async def test_a_route_that_the_operator_maps_is_that_of_each_app_it_is_mapped_to(routes: RouteStore) -> None:
    await routes.map_route(HOST, WEB)
    await routes.map_route(HOST, API)
    assert routes.routes()[HOST] == Route(HOST, SHOP, frozenset({WEB, API}), by_operator=True)
    assert routes_of(API, (), routes.routes()) == (HOST,)
    await routes.unmap_route(HOST, API)
    assert routes_of(API, (), routes.routes()) == ()
    assert routes_of(WEB, (), routes.routes()) == (HOST,)
    with pytest.raises(Conflict, match="belongs to acme/shop"):
        await routes.map_route(HOST, BLOG)
    with pytest.raises(Conflict, match="belongs to acme/shop"):
        await routes.claim_route(HOST, OTHER)


async def test_a_route_that_no_app_has_any_more_stays_its_spaces_until_it_is_freed(routes: RouteStore) -> None:
    await routes.map_route(HOST, WEB)
    await routes.unmap_route(HOST, WEB)
    with pytest.raises(Conflict, match="belongs to acme/shop"):
        await routes.claim_route(HOST, OTHER)
    await routes.unmap_route(HOST)
    assert not routes.routes()
    await routes.claim_route(HOST, OTHER)
    assert dict(routes.routes()) == {HOST: Route(HOST, OTHER)}


async def test_what_asked_for_a_route_at_attach_keeps_it_when_the_operator_maps_another_app_of_the_space(
    routes: RouteStore,
) -> None:
    await routes.claim_route(HOST, SHOP)
    await routes.map_route(HOST, API)
    assert routes_of(WEB, [HOST], routes.routes()) == (HOST,)
    await routes.unmap_route(HOST, WEB)
    assert routes_of(WEB, [HOST], routes.routes()) == ()
    assert routes_of(API, [HOST], routes.routes()) == (HOST,)
    await routes.map_route(HOST, WEB)
    assert routes_of(WEB, [], routes.routes()) == (HOST,)


async def test_the_operators_route_ends_other_spaces_claims_to_it_above_and_below(routes: RouteStore) -> None:
    hosts = (HOST, f"a.{HOST}", f"a.b.{HOST}", "apps.internal")
    for host in hosts:
        await routes.claim_route(host, SHOP)
    await routes.map_route(HOST, BLOG)
    assert dict(routes.routes()) == {HOST: Route(HOST, OTHER, frozenset({BLOG}), by_operator=True)}
    for host in hosts:
        with pytest.raises(Conflict, match="shop/blog"):
            await routes.claim_route(host, SHOP)
    await routes.unmap_route(HOST)
    assert not routes.routes(), "what has ended does not come back"


async def test_what_cannot_be_taken_back_is_named(routes: RouteStore) -> None:
    await routes.map_route(HOST, WEB)
    with pytest.raises(NotFound, match=r"there is no route 'backed\.apps\.internal'") as refused:
        await routes.unmap_route("backed.apps.internal", WEB)
    assert refused.value.hint == f"did you mean '{HOST}'?"
    with pytest.raises(NotFound, match="there is no route"):
        await routes.unmap_route("backed.apps.internal")
    with pytest.raises(NotFound, match="is not mapped to shop/blog/web") as refused:
        await routes.unmap_route(HOST, BLOG)
    assert refused.value.hint == "it is mapped to acme/shop/web"


async def test_listeners_hear_of_each_change_of_routes_and_names_and_of_nothing_else(routes: RouteStore) -> None:
    heard: list[int] = []
    routes.changes.subscribe(lambda: heard.append(1))
    await routes.claim_route(HOST, SHOP)
    await routes.map_route("web.apps.internal", WEB)
    await routes.claim_names({"web.local": WEB})
    assert len(heard) == 3
    known, claimed = routes.routes(), routes.claimed_names()
    await routes.claim_route(HOST, SHOP)
    await routes.map_route("web.apps.internal", WEB)
    await routes.claim_names({"web.local": WEB})
    with pytest.raises(Conflict):
        await routes.claim_route(HOST, OTHER)
    await routes.claim_names({"web.local": BLOG})
    await routes.claim_names({})
    assert len(heard) == 3
    assert routes.routes() is known
    assert routes.claimed_names() is claimed
    await routes.unmap_route("web.apps.internal")
    await routes.unmap_route("web.local")
    assert len(heard) == 5


async def test_a_name_is_the_apps_that_claimed_it_first_until_the_operator_frees_it(routes: RouteStore) -> None:
    assert routes.claimed_names() == {}
    await routes.claim_names({"web.shop.local": WEB, "api.shop.local": API})
    await routes.claim_names({"web.shop.local": BLOG, "web.blog.local": BLOG})
    assert routes.claimed_names() == {"web.shop.local": WEB, "api.shop.local": API, "web.blog.local": BLOG}
    await routes.unmap_route("web.shop.local")
    assert routes.claimed_names() == {"api.shop.local": API, "web.blog.local": BLOG}
    await routes.claim_names({"web.shop.local": BLOG})
    assert routes.claimed_names()["web.shop.local"] == BLOG


async def test_an_instance_gets_the_lowest_number_that_is_free(indexes: IndexStore) -> None:
    assert await indexes.claim_index(WEB, name="a", wanted=None, avoid=()) == 0
    assert await indexes.claim_index(WEB, name="b", wanted=None, avoid=()) == 1
    assert await indexes.claim_index(API, name="c", wanted=None, avoid=()) == 0
    assert await indexes.claim_index(WEB, name="d", wanted=None, avoid={2, 4}) == 3
    await indexes.release_index(WEB, 0, name="a")
    await indexes.release_index(WEB, 0, name="a")
    assert await indexes.claim_index(WEB, name="e", wanted=None, avoid=()) == 0


async def test_a_number_that_is_asked_for_is_taken_or_refused(indexes: IndexStore) -> None:
    assert await indexes.claim_index(WEB, name="a", wanted=7, avoid=()) == 7
    assert await indexes.claim_index(WEB, name="a", wanted=7, avoid=()) == 7
    with pytest.raises(Conflict, match="instance 7 of acme/shop/web is taken by 'a'"):
        await indexes.claim_index(WEB, name="b", wanted=7, avoid=())
    with pytest.raises(Conflict, match="instance 3 of acme/shop/web is taken by another attachment of this cell"):
        await indexes.claim_index(WEB, name="b", wanted=3, avoid={3})
    assert await indexes.claim_index(API, name="b", wanted=7, avoid=()) == 7


async def test_a_number_is_given_back_only_by_its_own_attachment(indexes: IndexStore) -> None:
    await indexes.claim_index(WEB, name="a", wanted=0, avoid=())
    await indexes.release_index(WEB, 0, name="b")
    await indexes.release_index(API, 0, name="a")
    with pytest.raises(Conflict, match="instance 0 of acme/shop/web is taken by 'a'"):
        await indexes.claim_index(WEB, name="b", wanted=0, avoid=())


async def test_a_number_whose_claim_changes_is_told_once(indexes: IndexStore) -> None:
    await indexes.claim_index(WEB, name="a", wanted=0, avoid=())
    claimed = indexes.take_claimed()
    assert claimed in (frozenset(), {(WEB, 0)})  # a lone cell's are no other's
    assert bool(claimed) == (indexes.claimant(WEB, 0) is not None)
    assert not indexes.take_claimed()


async def test_routes_and_names_of_a_file_are_kept_over_a_restart(path: Path) -> None:
    with closing(Database(path)) as database:
        store = LoneNames(database, changes=Changes())
        await store.claim_route("a.apps.internal", SHOP)
        await store.map_route(HOST, WEB)
        await store.unmap_route(HOST, API)
        await store.claim_names({"web.local": WEB})
        routes = store.routes()
    with closing(Database(path)) as again:
        store = LoneNames(again, changes=Changes())
        assert store.routes() == routes
        assert routes[HOST] == Route(HOST, SHOP, frozenset({WEB}), by_operator=True, without=frozenset({API}))
        assert store.claimed_names() == {"web.local": WEB}


async def test_a_file_of_a_version_without_routes_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "cellnet.db"
    earlier = sqlite3.connect(path, isolation_level=None)
    migrate(earlier, migrations=MIGRATIONS[:7])
    earlier.close()
    path.chmod(0o600)
    with closing(Database(path)) as database:
        store = LoneNames(database, changes=Changes())
        await store.claim_route(HOST, SHOP)
        assert dict(store.routes()) == {HOST: Route(HOST, SHOP)}


ROUTES = {"a": ["a.apps.internal", "0.a.apps.internal"], "b": ["a.apps.internal", "7b.apps.internal"], "c": []}


async def test_the_routes_of_what_an_earlier_version_has_attached_are_its_spaces(tmp_path: Path) -> None:
    path = tmp_path / "cellnet.db"
    earlier = sqlite3.connect(path, isolation_level=None)
    migrate(earlier, migrations=MIGRATIONS[:4])
    for number, (name, routes) in enumerate(ROUTES.items()):
        earlier.execute(
            "INSERT INTO attachments VALUES (?, ?, 0, ?, 'eth0', '[]', ?, 8080, 0, '{}', 'attached')",
            (name, f"acme/space-{name}/web-a", number, json.dumps(routes)),
        )
    earlier.close()
    path.chmod(0o600)
    with closing(Database(path)) as database:
        held = LoneNames(database, changes=Changes()).routes()
    assert dict(held) == {
        "a.apps.internal": Route("a.apps.internal", Space("acme", "space-a")),
        "7b.apps.internal": Route("7b.apps.internal", Space("acme", "space-b")),
    }


async def test_what_the_file_refuses_changes_no_route(small_disk: Path) -> None:
    with closing(Database(small_disk / "state" / "cellnet.db")) as database:
        store = LoneNames(database, changes=Changes())
        await store.claim_route(HOST, SHOP)
        routes = store.routes()
        with disks.full(small_disk):
            for refused in (store.claim_route("a.b", SHOP), store.map_route("a.b", WEB), store.claim_names({"a.b": WEB})):
                with pytest.raises(HostRefused):
                    await refused
            await store.claim_route(HOST, SHOP)
            assert store.routes() is routes
            assert store.claimed_names() == {}
