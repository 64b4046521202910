"""What an instance is called."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidInput
from agent.identity.names import dns_names, identity
from agent.model.names import AppName
from ca.names import is_dns_name

WEB = AppName("acme", "shop", "web")
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


def test_an_instance_answers_to_its_app_its_routes_and_each_with_its_index() -> None:
    assert dns_names(WEB, index=2, routes=["web.apps.internal"], domain="cell.internal") == (
        "web.shop.acme.cell.internal",
        "2.web.shop.acme.cell.internal",
        "web.apps.internal",
        "2.web.apps.internal",
    )


def test_the_order_and_number_of_mentions_of_routes_change_nothing() -> None:
    once = dns_names(WEB, index=0, routes=["a.apps.internal", "b.apps.internal"], domain="cell.internal")
    twice = dns_names(WEB, index=0, routes=["b.apps.internal", "a.apps.internal"] * 2, domain="cell.internal")
    assert once == twice


def test_a_route_that_is_the_apps_own_name_stands_once() -> None:
    names = dns_names(WEB, index=0, routes=["web.shop.acme.cell.internal"], domain="cell.internal")
    assert names == ("web.shop.acme.cell.internal", "0.web.shop.acme.cell.internal")


def test_a_name_too_long_for_dns_is_left_out_and_the_rest_stays() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(longest) == 253
    names = dns_names(WEB, index=0, routes=[longest], domain="cell.internal")
    assert longest in names
    assert f"0.{longest}" not in names


@given(org=labels, space=labels, app=labels, index=st.integers(0, 65535), domain=st.lists(labels, min_size=1, max_size=4))
def test_every_app_has_an_identity_that_a_certificate_can_carry(
    org: str, space: str, app: str, index: int, domain: list[str]
) -> None:
    made = identity(
        AppName(org, space, app),
        index=index,
        address=IPv4Address("10.255.1.2"),
        routes=[],
        domain=".".join(domain),
        trust_domain="cell.internal",
    )
    assert all(is_dns_name(name) for name in made.dns_names)
    assert made.spiffe_id == f"spiffe://cell.internal/org/{org}/space/{space}/app/{app}"


def test_a_bad_route_is_the_callers_mistake() -> None:
    address = IPv4Address("10.255.1.2")
    with pytest.raises(InvalidInput, match="not a DNS name"):
        identity(
            WEB, index=0, address=address, routes=["*.apps.internal"], domain="cell.internal", trust_domain="cell.internal"
        )
