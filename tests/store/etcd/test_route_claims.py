"""Whose a name is: what was seen first, whatever other cells write. The rules, without an etcd."""

import json

import pytest

from agent.model.names import AppName, Space
from agent.model.routes import Route
from agent.store.etcd.client import Value
from agent.store.etcd.names import records as name_records
from agent.store.etcd.names.first_claims import REST
from tests.testlib.stores.name_view import BLOG, CLAIM, HOST, KEYS, OPERATORS, PRESS, SHOP, WEB, NameView


def mapped(space: Space, *apps: AppName, host: str = HOST) -> Route:
    return Route(host, space, frozenset(apps), by_operator=True)


def rewritten(view: NameView) -> None:
    view.put(CLAIM, name_records.encode_route_claim(BLOG, cell="cell-9"))


def deleted(view: NameView) -> None:
    view.delete(CLAIM)


def remade(view: NameView) -> None:
    view.remake(HOST, BLOG)


def spoilt(view: NameView) -> None:
    view.put(CLAIM, b"nonsense")


def deleted_and_remade(view: NameView) -> None:
    view.delete(CLAIM)
    view.claim(HOST, BLOG, cell="cell-9")


ATTACKS = {each.__name__: each for each in (rewritten, deleted, remade, spoilt, deleted_and_remade)}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_claim_that_another_cell_tampers_with_stays_with_the_space_that_was_seen_first(attack: str) -> None:
    view = NameView()
    view.claim(HOST)
    instance = view.run(WEB, HOST)
    view.now += REST + 1
    known = view.found.routes
    ATTACKS[attack](view)
    assert view.spaces == {HOST: SHOP}
    assert view.found.routes is known
    assert "acme/shop had it first" in view.why
    again = view.restarted()
    again.run(WEB, HOST)
    again.wait()
    assert again.spaces == {HOST: SHOP}, "as after a restart"
    assert "acme/shop had it first" in again.why
    view.end(instance)
    assert view.spaces == {HOST: SHOP}, "its cell's agent may only be restarted"
    view.wait()
    assert view.spaces == ({HOST: BLOG} if "remade" in attack else {}), "none is left that had the name by the claim"


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_claim_is_no_others_before_its_first_instance_has_come(attack: str) -> None:
    view = NameView()
    view.claim(HOST)
    ATTACKS[attack](view)
    assert view.spaces == {HOST: SHOP}
    view.run(WEB, HOST)
    view.wait()
    assert view.spaces == {HOST: SHOP}


def test_a_tampered_claim_of_which_no_instance_comes_is_given_up_after_a_while() -> None:
    view = NameView()
    view.claim(HOST)
    remade(view)
    assert view.wait()
    assert view.spaces == {HOST: BLOG}


def test_to_a_cell_that_has_not_seen_it_before_a_claim_that_was_changed_is_nobodys() -> None:
    view = NameView()
    view.claim(HOST)
    rewritten(view)
    new = view.fresh()
    assert new.spaces == {}
    assert new.why == "it was changed after it was made: whose it was first is not known"
    deleted(new)
    assert new.found.left_out == {}


def test_of_instances_only_those_count_that_have_the_name_by_the_claim() -> None:
    view = NameView()
    view.claim(HOST)
    view.run(WEB, "other.apps.internal")
    view.run(PRESS, HOST)
    remade(view)
    view.wait()
    assert view.spaces == {HOST: BLOG}


def test_what_the_operator_frees_is_free_though_instances_run_that_have_the_name() -> None:
    view = NameView()
    view.claim(HOST)
    view.run(WEB, HOST)
    rewritten(view)
    view.operate(HOST, None)
    assert (view.spaces, view.found.left_out) == ({}, {})
    view.claim(HOST, BLOG)
    assert view.spaces == {HOST: BLOG}
    assert view.fresh().spaces == view.restarted().spaces == {HOST: BLOG}
    view.run(PRESS, HOST)
    view.operate(HOST, None)
    assert view.spaces == {}, "a second time, too"


def test_what_was_freed_while_the_agent_was_down_is_free_at_its_start() -> None:
    view = NameView()
    view.claim(HOST)
    view.run(WEB, HOST)
    remade(view)
    later = view.restarted()
    later.run(WEB, HOST)
    assert later.spaces == {HOST: SHOP}
    later.operate(HOST, None)
    assert later.spaces == {}


def test_what_the_operator_maps_beats_what_cells_claim() -> None:
    view = NameView()
    for host in (HOST, f"a.{HOST}", f"b.a.{HOST}"):
        view.claim(host)
        view.run(WEB, host)
    view.operate(HOST, mapped(BLOG, PRESS))
    assert dict(view.found.routes) == {HOST: mapped(BLOG, PRESS)}
    assert set(view.found.left_out.values()) == {f"it names acme/shop, but the operator has given {HOST} to acme/blog"}
    view.claim(HOST)
    assert view.found.left_out[CLAIM] == "it names acme/shop, but the operator has given it to acme/blog"
    view.claim(HOST, BLOG)
    assert CLAIM not in view.found.left_out
    view.claim("c.apps.internal", BLOG)
    assert view.spaces == {HOST: BLOG, "c.apps.internal": BLOG}


def test_when_the_operators_route_goes_claims_beside_it_hold_again() -> None:
    view = NameView()
    view.claim(f"a.{HOST}")
    view.operate(HOST, mapped(BLOG, PRESS))
    assert view.spaces == {HOST: BLOG}
    view.operate(HOST, None)
    assert view.spaces == {f"a.{HOST}": SHOP}
    assert view.found.left_out == {}


@pytest.mark.parametrize("other", [f"a.{HOST}", f"x.y.{HOST}", "shop.apps.internal"])
def test_of_claims_above_and_below_each_other_the_first_holds(other: str) -> None:
    first, second = ("www.shop.apps.internal", other) if other.startswith("shop") else (HOST, other)
    view = NameView()
    view.claim(first)
    view.claim(second, BLOG)
    view.claim("else.apps.internal", BLOG)
    assert view.spaces == {first: SHOP, "else.apps.internal": BLOG}
    assert view.why == f"it names acme/blog, but acme/shop had {first} before"
    assert view.fresh().spaces == view.restarted().spaces == view.spaces
    view.delete(KEYS.claimed_route(first))
    view.wait()
    assert view.spaces == {second: BLOG, "else.apps.internal": BLOG}


def test_a_claim_made_anew_with_an_earlier_revision_takes_nothing_from_what_was_seen_first() -> None:
    """As after a loss of data, when all is written back in some order."""
    view = NameView()
    view.claim(HOST)
    view.run(WEB, HOST)
    view.values[KEYS.claimed_route(f"a.{HOST}")] = Value(name_records.encode_route_claim(BLOG, cell="cell-9"), 1, 0, 1)
    view.found.update([KEYS.claimed_route(f"a.{HOST}")], view.values)
    assert view.spaces == {HOST: SHOP}
    again = view.restarted()
    assert again.spaces == {HOST: SHOP}
    assert view.fresh().spaces == {f"a.{HOST}": BLOG}, "without that, the older record counts"


LIES: dict[str, tuple[str, bytes, str]] = {
    "no json": (CLAIM, b"nonsense", "Invalid JSON"),
    "no owner": (CLAIM, b'{"cell": "one"}', "owner: Field required"),
    "an app for a space": (CLAIM, b'{"cell": "one", "owner": "a/b/c"}', "owner: 'a/b/c' is not a space's name"),
    "a number for a space": (CLAIM, b'{"cell": "one", "owner": 7}', "owner: Input should be a text"),
    "a cell of control characters": (CLAIM, b'{"cell": "o\\nne", "owner": "a/b"}', "cell: it has control characters"),
    "a cell that cannot be": (CLAIM, b'{"cell": "One!", "owner": "a/b"}', "'One!' cannot name a cell"),
    "a number's name": (KEYS.claimed_route(f"0.{HOST}"), b"", "begins with a number"),
    "a route domain": (KEYS.claimed_route("apps.internal"), b"", "lies below no route domain"),
    "all names": (KEYS.claimed_route("internal"), b"", "is not a route"),
    "an app's own name": (KEYS.claimed_route("web.shop.acme.cell.internal"), b"", "only the apps' own names"),
    "a name of the world": (KEYS.claimed_route("www.example.com"), b"", "lies below no route domain"),
    "a name in capitals": (KEYS.claimed_route("Web.apps.internal"), b"", "is not a route"),
    "a wildcard": (KEYS.claimed_route("*.apps.internal"), b"", "is not a route"),
    "a key that is another's name": (f"{KEYS.claimed_routes}internal/backend.apps", b"", "it is no name's key"),
    "no name at all": (KEYS.claimed_routes, b"", "is not a route"),
    "a name of many parts": (KEYS.claimed_route(f"{'a.' * 40}apps.internal"), b"", "more than 32 parts"),
    "a claimed name that is none": (KEYS.claimed_names + "a/b", b'{"cell": "one", "owner": "a/b/c"}', "is not a route"),
    "a space for an app": (KEYS.claimed_name("a.b"), b'{"cell": "one", "owner": "a/b"}', "'a/b' is not an app's name"),
    "the operator's, of another space's app": (OPERATORS, b'{"space": "a/b", "apps": ["a/c/d"]}', "a/c/d is not of a/b"),
    "the operator's, without sense": (OPERATORS, b"[]", "Input should be an object"),
    "the operator's, of no name": (KEYS.route("x.example.com"), b'{"space": "a/b"}', "lies below no route domain"),
    "the operator's, of another's key": (f"{KEYS.routes}internal/backend.apps", b'{"space": "a/b"}', "it is no name's key"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_left_out_and_named_and_honest_claims_stay(lie: str) -> None:
    key, data, why = LIES[lie]
    view = NameView()
    view.claim("honest.apps.internal")
    view.put(key, data or name_records.encode_route_claim(BLOG, cell="cell-9"))
    assert view.spaces == {"honest.apps.internal": SHOP}
    assert view.found.names == {}
    assert view.found.malformed.keys() == {key}
    assert why in view.found.malformed[key]
    view.delete(key)
    assert view.found.malformed == {}


def test_a_name_of_an_app_is_kept_like_a_route() -> None:
    view, key = NameView(), KEYS.claimed_name("web.shop.local")
    view.put(key, name_records.encode_name_claim(WEB, cell="cell-1"))
    instance = view.run(WEB)
    view.now += REST + 1
    known = view.found.names
    assert known == {"web.shop.local": WEB}
    view.put(key, name_records.encode_name_claim(PRESS, cell="cell-9"))
    assert view.found.names is known
    assert view.why == "it names acme/blog/press, but acme/shop/web had it first, and has not gone"
    again = view.restarted()
    again.run(WEB)
    assert again.found.names == known
    view.end(instance)
    assert view.found.names is known
    view.wait()
    assert view.found.names == {}
    again.operate("web.shop.local", None)
    assert (again.found.names, again.found.malformed) == ({}, {})


def test_what_changed_nothing_gives_the_same_objects() -> None:
    view = NameView()
    view.claim(HOST)
    view.put(KEYS.claimed_name("web.local"), name_records.encode_name_claim(WEB, cell="cell-1"))
    routes, names, disputed = view.found.routes, view.found.names, view.found.disputed()
    assert not view.put(CLAIM, view.values[CLAIM].data)
    assert not view.put(KEYS.policy("x"), b"{}")
    view.delete(KEYS.policy("x"))
    assert view.found.update([], view.values) is False
    assert view.found.routes is routes
    assert view.found.names is names
    assert not view.put(KEYS.policy("x"), b"{}")
    assert disputed == {}
    assert view.found.disputed() is view.found.disputed()


def test_the_operators_route_that_is_held_after_a_loss_ends_no_claim() -> None:
    """The same record is among the changes again, as it was."""
    view = NameView()
    view.operate(HOST, None)
    view.claim(HOST)
    view.run(WEB, HOST)
    remade(view)
    view.found.update([OPERATORS], view.values)
    assert view.spaces == {HOST: SHOP}


def test_records_are_what_they_were_when_they_are_read_again() -> None:
    route = Route(HOST, SHOP, frozenset({WEB}), by_operator=True, without=frozenset({AppName.parse("acme/shop/api")}))
    data = name_records.encode_route(route)
    assert json.loads(data) == {"apps": ["acme/shop/web"], "space": "acme/shop", "without": ["acme/shop/api"]}
    assert name_records.decode_route(HOST, Value(data, 1)) == route
    assert name_records.decode_route(HOST, Value(name_records.encode_route(None), 1)) is None
    claim = name_records.decode_route_claim(Value(name_records.encode_route_claim(SHOP, cell="one"), 7, 0, 5))
    assert claim == name_records.Claim(SHOP, "one", 5, is_as_made=False)
    index = name_records.IndexClaim("one", "web-1")
    assert name_records.decode_index(Value(name_records.encode_index(index), 1)) == index
