"""A route lies below a route domain, never among the apps' own names, and belongs to one space."""

import pytest

from agent.errors import InvalidInput
from agent.model.routes import RouteDomains
from tests.testlib.samples import ROUTE_DOMAINS


@pytest.mark.parametrize("route", ["web.apps.internal", "a.b.apps.internal", "0.web.apps.internal"])
def test_a_route_below_a_route_domain_may_be(route: str) -> None:
    ROUTE_DOMAINS.require(route)
    assert ROUTE_DOMAINS.allowed([route]) == (route,)


@pytest.mark.parametrize(
    ("route", "what"),
    [
        ("google.com", "'google.com' lies below no route domain"),
        ("apps.internal", "'apps.internal' lies below no route domain"),
        ("evil-apps.internal", "'evil-apps.internal' lies below no route domain"),
        (
            "api.a.b.cell.internal",
            "'api.a.b.cell.internal' is in cell.internal, where only the apps' own names are",
        ),
        ("cell.internal", "'cell.internal' is in cell.internal, where only the apps' own names are"),
    ],
)
def test_any_other_route_is_refused_with_where_routes_may_lie(route: str, what: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ROUTE_DOMAINS.require(route)
    hint = "write a name below apps.internal, or add its domain to dns.route_domains in agent.yaml"
    assert (refused.value.what, refused.value.hint) == (what, hint)
    assert ROUTE_DOMAINS.allowed([route]) == ()


def test_the_apps_own_domain_stays_theirs_within_a_wider_route_domain() -> None:
    wide = RouteDomains(("internal",), own="cell.internal")
    wide.require("web.internal")
    with pytest.raises(InvalidInput, match="only the apps' own names"):
        wide.require("web.cell.internal")


def test_without_route_domains_there_are_no_routes() -> None:
    with pytest.raises(InvalidInput) as refused:
        RouteDomains((), own="cell.internal").require("web.apps.internal")
    assert refused.value.hint == "add its domain to dns.route_domains in agent.yaml"
