"""Networks and names of the outside as values: the normal form is the same addresses, whatever was written."""

import itertools
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.names import AppName
from agent.model.outside import Cidrs, HostPattern, Hosts, united
from agent.model.policy import ANY_PORT, ECHO, AppPolicy, EgressPolicy, IngressPolicy, Origin, Pattern, Policy, Protocol
from agent.policy.rights.reach import Reach
from agent.policy.rights.resolve import PolicyResolver
from agent.policy.tags_in_use import NamedApps

BASE = int(IPv4Address("192.0.2.0"))
WEB, API, DB = (AppName("acme", "shop", app) for app in ("web", "api", "db"))
EVERYTHING = Cidrs((IPv4Network("0.0.0.0/0"),))


@st.composite
def small(draw: st.DrawFn) -> IPv4Network:
    """Of 32 addresses, so that examples meet and touch."""
    prefix = draw(st.integers(27, 32))
    return IPv4Network((BASE + (draw(st.integers(0, 31)) >> (32 - prefix) << (32 - prefix)), prefix))


NETWORKS = st.lists(small(), min_size=1, max_size=6).map(tuple)


def members(networks: tuple[IPv4Network, ...]) -> set[int]:
    return {int(address) for each in networks for address in each}


@given(NETWORKS, st.lists(small(), max_size=6).map(tuple))
def test_the_normal_form_is_the_same_addresses_in_as_few_networks_as_possible(
    networks: tuple[IPv4Network, ...], excepted: tuple[IPv4Network, ...]
) -> None:
    cidrs = Cidrs(networks, excepted)
    normal = cidrs.normal()
    assert members(normal) == members(networks) - members(excepted)
    assert list(normal) == sorted(normal)
    for one, other in itertools.pairwise(normal):
        assert one.broadcast_address < other.network_address
        assert one.prefixlen != other.prefixlen or one.supernet() != other.supernet(), "two that could be one"
    for number in range(BASE - 1, BASE + 33):
        assert (IPv4Address(number) in cidrs) == (number in members(normal))


@given(NETWORKS, NETWORKS)
def test_networks_are_united(one: tuple[IPv4Network, ...], other: tuple[IPv4Network, ...]) -> None:
    assert united((one, other)) == Cidrs((*other, *one)).normal()


@pytest.mark.parametrize(
    ("networks", "excepted", "normal"),
    [
        ("0.0.0.0/0", "", "0.0.0.0/1 128.0.0.0/1"),
        ("0.0.0.0/1 128.0.0.0/1", "", "0.0.0.0/1 128.0.0.0/1"),
        ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"),
        ("0.0.0.0/0", "0.0.0.0/0", ""),
        ("255.255.255.254/31", "255.255.255.255/32", "255.255.255.254/32"),
        ("0.0.0.0/31", "0.0.0.0/32", "0.0.0.1/32"),
        ("192.0.2.0/29", "192.0.2.2/31 192.0.2.7/32", "192.0.2.0/31 192.0.2.4/31 192.0.2.6/32"),
    ],
)
def test_the_edges_of_the_address_space_are_like_any_other_place(networks: str, excepted: str, normal: str) -> None:
    found = Cidrs(*(tuple(map(IPv4Network, each.split())) for each in (networks, excepted)))
    assert " ".join(map(str, found.normal())) == normal


def test_everything_but_one_address_is_32_networks() -> None:
    assert len(Cidrs((IPv4Network("0.0.0.0/0"),), (IPv4Network("192.0.2.7/32"),)).normal()) == 32


def test_an_exact_name_is_only_that_name_and_a_wildcard_is_any_depth_below() -> None:
    exact, below = HostPattern("example.org"), HostPattern("example.org", below=True)
    names = ("example.org", "a.example.org", "b.a.example.org", "badexample.org", "example.org.evil", "org")
    assert [each for each in names if exact.matches(each)] == ["example.org"]
    assert [each for each in names if below.matches(each)] == ["a.example.org", "b.a.example.org"]
    assert str(Hosts((exact, below))) == "example.org *.example.org"


def outside(*, icmp: bool = False) -> tuple[Policy, ...]:
    here, web, api = Origin("f", 1, 1), Pattern("acme", "shop", "web"), Pattern("acme", "shop", "api")
    return (
        EgressPolicy("out", (web, Pattern("acme", "blog", None)), EVERYTHING, tcp=(ANY_PORT,), icmp=icmp, origin=here),
        IngressPolicy("in", EVERYTHING, api, tcp=(ANY_PORT,), icmp=icmp, origin=here),
    )


def test_what_concerns_the_outside_gives_no_app_a_right_to_another() -> None:
    between = AppPolicy(
        "p", (Pattern("acme", "shop", "db"),), Pattern("acme", "shop", "api"), tcp=(ANY_PORT,), origin=Origin("f")
    )
    resolver, reach, tags = PolicyResolver(), Reach(), {WEB: 1, API: 2, DB: 3}
    for policies in (outside(), (*outside(), between), (between,), outside()):
        fresh = PolicyResolver()
        resolver.update(policies, tags)
        fresh.update(tuple(each for each in policies if isinstance(each, AppPolicy)), tags)
        reach.follow(policies, known=frozenset(tags))
        for to in tags:
            assert resolver.allows(to) == fresh.allows(to)
            assert resolver.check(WEB, to, protocol=Protocol.TCP, port=80) is None
            assert reach.of(to) == ({API} if to == DB and between in policies else set())


def test_an_app_that_is_named_beside_the_outside_has_a_tag_like_any_other() -> None:
    named = NamedApps()
    named.follow(outside())
    assert named.names == {WEB, API}


def test_an_echo_stands_where_other_protocols_have_ports() -> None:
    silent, loud = outside()[0], outside(icmp=True)[0]
    assert (silent.ports(Protocol.ICMP), loud.ports(Protocol.ICMP)) == ((), (ECHO,))
    assert str(ECHO) == "echo"
