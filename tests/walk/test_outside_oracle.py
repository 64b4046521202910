"""The oracle where one end is outside: what the documentation says, and that it and the product read such rules alike."""

import json
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.problems import InvalidSource
from agent.model.names import AppName
from agent.model.outside import HostPattern
from agent.model.policy import Policy, Protocol
from agent.policy.language.language import parse
from agent.policy.rights.outside import OutsideResolver, Stranger
from dataplane.state import OutsideRight
from tests.testlib.oracle import Known, Rule, comes_in, goes_out, reaches

pytestmark = pytest.mark.usefixtures("every_form")
WEB, API, BLOG = "acme/shop/web", "acme/shop/api", "acme/blog/web"
APPS = [f"{org}/{space}/{app}" for org in ("acme", "zeta") for space in ("shop", "blog") for app in ("web", "api")]
PATTERNS = [*APPS, "acme/shop/*", "zeta/blog/*", "acme/*/*", "zeta/*/*"]
NAMES = ["example.org", "api.example.org", "b.api.example.org", "xexample.org", "example.org.net", "api.example.com"]
NETWORKS = ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.0/25", "192.0.2.128/25", "192.0.2.7/32", "192.0.2.8", "198.51.100.0/30"]
PORTS = (0, *range(1, 15), 61443, 65535)


def known(*rules: Rule) -> Known:
    return Known(files={"a.yaml": rules})


def test_a_network_is_all_its_addresses_but_those_that_are_excepted() -> None:
    rule = {"from": WEB, "to": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25", "192.0.2.0"]}, "tcp": 443}
    last = [0, 1, 127, 128, 255]
    found = [each for each in last if goes_out(WEB, to=f"192.0.2.{each}", protocol="tcp", port=443, known=known(rule))]
    assert found == [1, 127]
    assert not goes_out(WEB, to="192.0.3.0", protocol="tcp", port=443, known=known(rule))


def test_what_one_rule_excepts_another_may_allow() -> None:
    wide = {"from": WEB, "to": {"cidr": "0.0.0.0/0", "except": "192.0.2.0/24"}, "tcp": 443}
    more = {"from": "acme/shop/*", "to": {"cidr": "192.0.2.7"}, "tcp": 443}
    assert not goes_out(WEB, to="192.0.2.7", protocol="tcp", port=443, known=known(wide))
    assert goes_out(WEB, to="192.0.2.7", protocol="tcp", port=443, known=known(wide, more))


def test_a_name_is_that_name_and_a_star_is_any_depth_below() -> None:
    exact, below = ({"from": WEB, "to": {"host": each}, "tcp": 443} for each in ("example.org", "*.example.org"))
    for rule, those in ((exact, {"example.org"}), (below, {"api.example.org", "b.api.example.org"})):
        assert {each for each in NAMES if goes_out(WEB, to=each, protocol="tcp", port=443, known=known(rule))} == those


def test_the_outside_calls_what_a_rule_names_by_app_or_by_pattern() -> None:
    rule = {"from": {"cidr": "192.0.2.0/24"}, "to": "acme/shop/*", "tcp": 8080}
    assert [each for each in APPS if comes_in("192.0.2.1", to=each, protocol="tcp", port=8080, known=known(rule))] == [WEB, API]
    assert not comes_in("192.0.3.1", to=WEB, protocol="tcp", port=8080, known=known(rule))
    assert not goes_out(WEB, to="192.0.2.1", protocol="tcp", port=8080, known=known(rule)), "one direction is not the other"


def test_the_outside_and_other_apps_are_not_each_other() -> None:
    out = {"from": WEB, "to": {"cidr": "0.0.0.0/0"}, "tcp": "any"}
    within = {"from": BLOG, "to": WEB, "tcp": "any", "icmp": "echo"}
    assert not any(reaches(WEB, to=to, protocol="tcp", port=80, known=known(out)) for to in APPS)
    assert not goes_out(BLOG, to="192.0.2.1", protocol="tcp", port=80, known=known(within))
    assert not comes_in("192.0.2.1", to=WEB, protocol="tcp", port=80, known=known(within))


def test_an_echo_is_no_port_and_a_port_no_echo() -> None:
    to = {"cidr": "192.0.2.1"}
    assert goes_out(WEB, to="192.0.2.1", protocol="icmp", port=0, known=known({"from": WEB, "to": to, "icmp": "echo"}))
    assert not goes_out(WEB, to="192.0.2.1", protocol="icmp", port=0, known=known({"from": WEB, "to": to, "tcp": "any"}))


@st.composite
def part(draw: st.DrawFn, whole: IPv4Network) -> str:
    prefix = draw(st.integers(whole.prefixlen + 1, 32))
    first = int(whole.network_address) + draw(st.integers(0, whole.num_addresses - 1))
    return str(IPv4Network((first, prefix), strict=False))


@st.composite
def cidrs(draw: st.DrawFn) -> dict[str, object]:
    """Networks that overlap and touch, without some of their parts."""
    networks = draw(st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3))
    made: dict[str, object] = {"cidr": networks[0] if len(networks) == 1 else networks}
    whole = IPv4Network(networks[0])
    if whole.prefixlen < 32 and draw(st.booleans()):
        made["except"] = draw(st.lists(part(whole), min_size=1, max_size=2))
    return made


HOSTS = st.lists(st.sampled_from([*NAMES, "*.example.org", "*.api.example.org", "*.org"]), min_size=1, max_size=3)
RANGES = st.sampled_from([1, 12, "3-7", "5-9", "8", "10-11", "any", 61443])


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    apps = st.sampled_from(PATTERNS)
    outside = draw(cidrs() | HOSTS.map(lambda names: {"host": names}))
    egress = {"from": draw(apps | st.lists(apps, min_size=1, max_size=3)), "to": outside}
    ingress = {"from": draw(cidrs()), "to": draw(apps)}
    rule: dict[str, object] = draw(st.sampled_from([egress, ingress, {"from": draw(apps), "to": draw(apps)}]))
    for protocol in draw(st.sampled_from([("tcp",), ("udp",), ("tcp", "udp"), ("icmp",), ("icmp", "tcp")])):
        rule[protocol] = "echo" if protocol == "icmp" else draw(RANGES | st.lists(RANGES, min_size=1, max_size=3))
    return rule


def edges(found: list[Rule]) -> list[str]:
    """The addresses at the edges of all networks and exceptions, and those beside them."""
    ends = [end for rule in found for end in (rule["from"], rule["to"]) if isinstance(end, dict)]
    given = [end[key] for end in ends for key in ("cidr", "except") if key in end]
    networks = [IPv4Network(each) for some in given for each in ([some] if isinstance(some, str) else some)]
    numbers = {n for each in networks for n in (int(each.network_address), int(each.broadcast_address))}
    near = {n + more for n in numbers for more in (-1, 0, 1)} | {int(IPv4Address("192.0.2.64"))}
    return [str(IPv4Address(n)) for n in sorted(near) if 0 <= n < 1 << 32]


def policies_of(found: list[Rule]) -> tuple[Policy, ...]:
    """But for rules that leave nothing of a network: the product refuses them, and the oracle finds nothing in them."""
    good: list[Policy] = []
    for rule in found:
        with suppress(InvalidSource):
            good += parse(json.dumps({"policies": [rule]}).encode(), source=f"/{len(good)}.yaml")
    return tuple(good)


def has(rights: frozenset[OutsideRight], stranger: Stranger, protocol: str, port: int) -> bool:
    return any(
        each.protocol == protocol
        and each.first <= port <= each.last
        and (
            any(stranger in network for network in each.networks)
            if isinstance(stranger, IPv4Address)
            else any(stranger.name == name or (name[:2] == "*." and stranger.name.endswith(name[1:])) for name in each.names)
        )
        for each in rights
    )


def strangers(found: list[Rule]) -> Iterator[tuple[str, Stranger]]:
    yield from ((each, IPv4Address(each)) for each in edges(found))
    yield from ((each, HostPattern(each)) for each in NAMES)


@given(st.lists(rules(), min_size=1, max_size=4), st.sampled_from(APPS))
def test_the_oracle_and_the_product_read_what_concerns_the_outside_alike(found: list[Rule], app: str) -> None:
    resolver, name = OutsideResolver(), AppName.parse(app)
    resolver.follow(policies_of(found))
    egress, ingress = resolver.egress.rights(name), resolver.ingress.rights(name)
    for text, stranger in strangers(found):
        for protocol in Protocol:
            for port in PORTS if protocol is not Protocol.ICMP else (0,):
                asked = {"protocol": protocol.value, "port": port}
                out = goes_out(app, to=text, known=known(*found), **asked)
                within = comes_in(text, to=app, known=known(*found), **asked)
                assert (out, within) == (has(egress, stranger, **asked), has(ingress, stranger, **asked)), (text, asked)
