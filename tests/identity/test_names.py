"""What an instance is called: by its app, by templates, and by routes that hold."""

from collections.abc import Iterable
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.config import Dns
from agent.config.name_templates import NameTemplate
from agent.errors import Conflict, InvalidInput
from agent.identity.names import Names, NamesHeld, Naming, app_name, identity, with_index
from agent.model.names import AppName, Space
from agent.model.routes import Route, Routes
from ca.names import is_dns_name
from tests.testlib.certificates import client_context, handshake, make_ca, server_context

WEB, OTHER = AppName("acme", "shop", "web"), AppName("acme", "other", "web")
SHOP = Space.of(WEB)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
EMPTY = NamesHeld(Routes(), {})


def naming(*templates: str, domain: str = "cell.internal") -> Naming:
    return Naming(Dns(domain=domain, names=tuple(map(NameTemplate.parse, templates))), lambda: EMPTY)


def holding(*routes: Route, **claimed: AppName) -> NamesHeld:
    """`web_cpln_local=WEB` claims web.cpln.local."""
    return NamesHeld(Routes({each.host: each for each in routes}), {key.replace("_", "."): app for key, app in claimed.items()})


PLAIN = naming()


def names(of: Naming = PLAIN, *, asked: Iterable[str] = (), held: NamesHeld = EMPTY, app: AppName = WEB) -> Names:
    return of.of(app, asked, held)


def test_an_instance_answers_to_its_app_and_routes_each_with_its_index_the_first_being_its_alone() -> None:
    found = names(asked=["web.apps.internal"], held=holding(Route("web.apps.internal", SHOP)))
    assert with_index(found, 2) == (
        "2.web.shop.acme.cell.internal",
        "web.shop.acme.cell.internal",
        "2.web.apps.internal",
        "web.apps.internal",
    )


def test_only_routes_that_hold_are_among_its_names() -> None:
    claimed, foreign = Route("a.apps.internal", SHOP), Route("b.apps.internal", Space("acme", "other"))
    mapped = Route("c.apps.internal", SHOP, frozenset({WEB}), by_operator=True)
    taken = Route("d.apps.internal", SHOP, by_operator=True, without=frozenset({WEB}))
    outside = Route("c.elsewhere.internal", SHOP, frozenset({WEB}), by_operator=True)
    asked = ["a.apps.internal", "b.apps.internal", "d.apps.internal", "e.apps.internal"]
    found = names(asked=asked, held=holding(claimed, foreign, mapped, taken, outside))
    assert found == ("web.shop.acme.cell.internal", "a.apps.internal", "c.apps.internal")


def test_the_order_and_number_of_mentions_of_routes_change_nothing() -> None:
    held = holding(Route("a.apps.internal", SHOP), Route("b.apps.internal", SHOP))
    once = names(asked=["a.apps.internal", "b.apps.internal"], held=held)
    assert once == names(asked=["b.apps.internal", "a.apps.internal"] * 2, held=held)
    assert once[1:] == ("a.apps.internal", "b.apps.internal")


def test_a_template_names_every_app_and_a_name_that_two_could_have_is_that_of_the_claim() -> None:
    both = naming("{app}.{space}.{org}.cpln.local", "{app}.{space}.local", "{app}.flat.example")
    assert names(both) == ("web.shop.acme.cell.internal", "web.shop.acme.cpln.local")
    held = holding(web_shop_local=WEB, web_flat_example=OTHER)
    assert names(both, held=held) == ("web.shop.acme.cell.internal", "web.shop.acme.cpln.local", "web.shop.local")
    assert names(both, held=held, app=OTHER)[2:] == ("web.flat.example",)
    assert both.to_claim(WEB) == ("web.shop.local", "web.flat.example")


def test_a_name_too_long_for_dns_is_left_out_and_the_rest_stays() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(longest) == 253
    assert with_index((longest, "web.apps.internal"), 0) == (longest, "0.web.apps.internal", "web.apps.internal")
    app = AppName("a" * 63, "b" * 63, "c" * 63)
    assert names(naming("{app}.cpln.local", domain="d." * 30 + "internal"), app=app) == ()
    assert naming("{app}.{space}." + "d." * 70 + "local").to_claim(app) == ()


def mapped(count: int) -> NamesHeld:
    """So many routes of 40 characters."""
    hosts = (f"r{number:04}-{'x' * 20}.apps.internal" for number in range(count))
    return holding(*(Route(host, SHOP, frozenset({WEB}), by_operator=True) for host in hosts))


def test_an_instance_has_no_more_names_than_its_certificate_has_room_for() -> None:
    some, many = mapped(700), mapped(1000)
    assert len(names(held=some)) == 701
    assert PLAIN.without_room(WEB, [], some) == ()
    found, left = names(held=many), PLAIN.without_room(WEB, [], many)
    assert (*found, *left) == ("web.shop.acme.cell.internal", *sorted(many.routes))
    assert 700 < len(found) < 1000


def test_a_route_for_which_there_is_no_room_is_refused_and_one_that_is_there_is_not() -> None:
    full = Naming(Dns(), lambda: mapped(1000))
    with pytest.raises(Conflict, match="of acme/shop/web has no room for new"):
        full.require_room(WEB, ["new.apps.internal"])
    full.require_room(WEB, mapped(1000).routes)
    full.require_room(OTHER, ["new.apps.internal"])
    Naming(Dns(), lambda: mapped(700)).require_room(WEB, ["new.apps.internal"])


def test_a_certificate_that_is_full_of_names_is_one_that_clients_take() -> None:
    """OpenSSL's end the handshake where all certificates of it together are above 100 KiB."""
    ca = make_ca()
    for held in (mapped(1000), holding(*(Route(f"{number}x.apps.internal", SHOP) for number in range(5000)))):
        made = identity(
            WEB, index=65535, address=IPv4Address("10.255.1.2"), names=names(asked=held.routes, held=held),
            trust_domain="cell.internal",
        )  # fmt: skip
        client = client_context(ca.root.bundle())
        assert handshake(server_context(ca.leaf(made)), client, dialled=made.dns_names[-1]) == b"hello"


def test_the_app_has_its_own_name() -> None:
    assert app_name(WEB, domain="cell.internal") == "web.shop.acme.cell.internal"


@given(org=labels, space=labels, app=labels, index=st.integers(0, 65535), domain=st.lists(labels, min_size=1, max_size=4))
def test_every_app_has_an_identity_that_a_certificate_can_carry(
    org: str, space: str, app: str, index: int, domain: list[str]
) -> None:
    address = IPv4Address("10.255.1.2")
    found = names(naming(domain=".".join(domain)), app=AppName(org, space, app))
    made = identity(AppName(org, space, app), index=index, address=address, names=found, trust_domain="cell.internal")
    assert all(is_dns_name(name) for name in made.dns_names)
    assert made.spiffe_id == f"spiffe://cell.internal/org/{org}/space/{space}/app/{app}"


def test_a_bad_name_is_the_callers_mistake() -> None:
    address = IPv4Address("10.255.1.2")
    with pytest.raises(InvalidInput, match="not a DNS name"):
        identity(WEB, index=0, address=address, names=("*.apps.internal",), trust_domain="cell.internal")
