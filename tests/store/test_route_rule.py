"""Routes as values: which of them an instance has, and what a changed set of them keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidInput
from agent.model.names import AppName, Space
from agent.model.routes import Route, Routes, names_above, routes_of
from tests.testlib.samples import app

WEB, API, BLOG = app("web"), app("api"), app("blog/web")
SHOP, OTHER = Space.of(WEB), Space.of(BLOG)


def test_an_instance_has_what_is_mapped_to_its_app_and_what_it_asked_for_and_its_space_has() -> None:
    routes = Routes(
        {
            "mapped.a": Route("mapped.a", SHOP, frozenset({WEB, API}), by_operator=True),
            "shared.a": Route("shared.a", SHOP, frozenset({API}), by_operator=True),
            "taken.a": Route("taken.a", SHOP, frozenset({API}), by_operator=True, without=frozenset({WEB})),
            "claimed.a": Route("claimed.a", SHOP),
            "others.a": Route("others.a", OTHER),
        }
    )
    asked = ["shared.a", "others.a", "claimed.a", "free.a", "taken.a"]
    assert routes_of(WEB, asked, routes) == ("claimed.a", "mapped.a", "shared.a")
    assert routes_of(WEB, [], routes) == ("mapped.a",)
    assert routes_of(BLOG, asked, routes) == ("others.a",)
    assert routes_of(WEB, asked, Routes()) == ()


def test_a_spaces_name_has_two_parts() -> None:
    assert Space.parse("acme/shop") == SHOP == Space("acme", "shop")
    assert str(SHOP) == "acme/shop"
    for wrong in ("acme", "acme/shop/web", "acme/Shop", "/shop", ""):
        with pytest.raises(InvalidInput):
            Space.parse(wrong)


def test_the_names_above_one_are_those_that_contain_it() -> None:
    assert list(names_above("a.b.apps.internal")) == ["b.apps.internal", "apps.internal", "internal"]


def test_a_change_that_changes_nothing_gives_the_same_object() -> None:
    routes = Routes({"a.b": Route("a.b", SHOP)})
    assert routes.after({}) is routes
    assert routes.after({"a.b": Route("a.b", SHOP), "c.d": None}) is routes
    assert routes.after({"a.b": None}) == {}
    assert dict(routes) == {"a.b": Route("a.b", SHOP)}


hosts = st.sampled_from(["a.a", "b.a", "c.a"])
apps = st.frozensets(st.sampled_from([WEB, API, BLOG]))


@given(st.lists(st.dictionaries(hosts, st.none() | apps)))
def test_after_any_changes_each_app_has_what_is_mapped_to_it(steps: list[dict[str, frozenset[AppName] | None]]) -> None:
    routes = Routes()
    for step in steps:
        changes = {host: None if of is None else Route(host, SHOP, of, by_operator=True) for host, of in step.items()}
        routes = routes.after(changes)
        assert routes == Routes(dict(routes))
        for each in (WEB, API, BLOG):
            assert routes.mapped_to(each) == {host for host, route in routes.items() if each in route.apps}
