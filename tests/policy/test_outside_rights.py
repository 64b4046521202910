"""What is worked out of policies for the outside, and what a caller may rely on when nothing changed.

That the rights are those that the policies say is held against an oracle in tests/walk/test_outside_oracle.py.
"""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from agent.model.names import AppName
from agent.model.outside import Cidrs, HostPattern, Hosts
from agent.model.policy import EgressPolicy, IngressPolicy, Origin, Pattern, Policy, Ports
from agent.policy.rights.outside import MOST_ENDS, OutsideResolver
from agent.policy.rights.resolve import MOST_RIGHTS
from dataplane.state import OutsideRight

WEB, API, BLOG = AppName("acme", "shop", "web"), AppName("acme", "shop", "api"), AppName("acme", "blog", "web")
HTTPS = (Ports(443, 443),)
EVERYTHING = IPv4Network("0.0.0.0/0")


def pattern(app: AppName) -> Pattern:
    return Pattern(app.org, app.space, app.app)


def network(number: int, *, bits: int = 24) -> IPv4Network:
    """One that touches no other."""
    return IPv4Network(((11 << 24) + 512 * number, bits))


def out(
    *networks: IPv4Network, apps: tuple[Pattern, ...] = (pattern(WEB),), name: str = "p", tcp: tuple[Ports, ...] = HTTPS
) -> Policy:
    return EgressPolicy(name, apps, Cidrs(networks), tcp=tcp, origin=Origin("f", 1, 1))


def by_name(*names: str, apps: tuple[Pattern, ...] = (pattern(WEB),)) -> Policy:
    hosts = tuple(HostPattern(each.removeprefix("*."), each.startswith("*.")) for each in names)
    return EgressPolicy("p", apps, Hosts(hosts), tcp=HTTPS, origin=Origin("f", 1, 1))


def within(*networks: IPv4Network, to: Pattern, name: str = "p") -> Policy:
    return IngressPolicy(name, Cidrs(networks), to, tcp=HTTPS, origin=Origin("f", 1, 1))


def resolver(*policies: Policy) -> OutsideResolver:
    made = OutsideResolver()
    made.follow(policies)
    return made


def test_policies_with_the_same_ports_are_one_right_with_all_their_networks_and_one_with_all_their_names() -> None:
    found = resolver(out(network(1)), out(network(3), network(2)), by_name("b.example", "*.a.example"), by_name("b.example"))
    assert found.egress.rights(WEB) == {
        OutsideRight("tcp", 443, 443, networks=(network(1), network(2), network(3))),
        OutsideRight("tcp", 443, 443, names=("*.a.example", "b.example")),
    }


def test_rights_of_audits_stand_apart_from_those_in_force() -> None:
    trial = replace(out(network(1), network(2)), audit=True)
    found = resolver(out(network(1)), trial, replace(within(network(3), to=pattern(WEB)), audit=True))
    assert found.egress.rights(WEB) == {
        OutsideRight("tcp", 443, 443, networks=(network(1),)),
        OutsideRight("tcp", 443, 443, networks=(network(1), network(2)), audit=True),
    }
    assert found.ingress.rights(WEB) == {OutsideRight("tcp", 443, 443, networks=(network(3),), audit=True)}


def test_ports_of_the_same_networks_are_as_few_ranges_as_possible() -> None:
    found = resolver(
        out(network(1), tcp=(Ports(80, 90),)), out(network(1), tcp=(Ports(85, 99),)), out(network(2), tcp=(Ports(99, 99),))
    )
    assert found.egress.rights(WEB) == {
        OutsideRight("tcp", 80, 99, networks=(network(1),)),
        OutsideRight("tcp", 99, 99, networks=(network(2),)),
    }


def test_all_addresses_are_two_halves() -> None:
    (right,) = resolver(out(EVERYTHING)).egress.rights(WEB)
    assert list(map(str, right.networks)) == ["0.0.0.0/1", "128.0.0.0/1"]


def test_an_app_that_no_policy_names_has_no_rights() -> None:
    found = resolver(out(EVERYTHING), within(EVERYTHING, to=pattern(API)))
    assert found.egress.rights(API) == found.ingress.rights(WEB) == frozenset()


def test_a_change_of_others_leaves_the_very_object() -> None:
    policies = (out(network(1)), out(network(2), apps=(pattern(API),)), within(EVERYTHING, to=pattern(WEB)))
    found = resolver(*policies)
    before, ingress = found.egress.rights(WEB), found.ingress.rights(WEB)
    found.follow((policies[0], out(network(9), apps=(pattern(API),)), policies[2]))
    assert found.egress.rights(WEB) is before
    assert found.ingress.rights(WEB) is ingress
    found.follow((out(network(1), name="q"), policies[2]))
    assert found.egress.rights(WEB) is before, "another policy that means the same"
    found.forget({WEB})
    assert found.egress.rights(WEB) is before


def test_apps_with_the_same_rights_share_one_object_whichever_policies_give_them() -> None:
    found = resolver(out(network(1), apps=(Pattern("acme", "shop", None),)), out(network(1), apps=(pattern(BLOG),)))
    assert found.egress.rights(WEB) is found.egress.rights(API) is found.egress.rights(BLOG)


def test_what_is_gone_is_forgotten_and_worked_out_again() -> None:
    found = resolver(out(network(1)))
    before = found.egress.rights(WEB)
    found.forget(())
    assert found.egress.left_out() == {}
    assert found.egress.rights(WEB) == before


NETWORKS = st.lists(st.sampled_from([network(number) for number in range(4)]), min_size=1, max_size=3)
ENDS = st.sampled_from([pattern(WEB), pattern(API), pattern(BLOG), Pattern("acme", "shop", None), Pattern("acme", None, None)])
EGRESS = st.builds(
    lambda networks, apps, port: out(*networks, apps=tuple(apps), tcp=(Ports(port, port + 1),)),
    NETWORKS, st.lists(ENDS, min_size=1, max_size=2, unique=True), st.integers(80, 83),
)  # fmt: skip
INGRESS = st.builds(lambda networks, to: within(*networks, to=to), NETWORKS, ENDS)


@given(st.lists(st.lists(EGRESS | INGRESS, max_size=5).map(tuple), min_size=1, max_size=5))
def test_a_resolver_that_saw_many_states_answers_like_a_fresh_one(states: list[tuple[Policy, ...]]) -> None:
    old = OutsideResolver()
    for policies in states:
        fresh = resolver(*policies)
        old.follow(policies)
        for app in (WEB, API, BLOG):
            assert old.egress.rights(app) == fresh.egress.rights(app)
            assert old.ingress.rights(app) == fresh.ingress.rights(app)
            for number in range(4):
                address = network(number).network_address
                assert old.egress.allowing(app, address) == fresh.egress.allowing(app, address)
        old.forget({WEB, API})


def test_a_policy_that_would_be_too_many_rights_is_left_out_and_named_and_the_others_hold() -> None:
    crowd = out(network(1), name="crowd", tcp=tuple(Ports(2 * port, 2 * port) for port in range(1, MOST_RIGHTS + 1)))
    small = out(network(2), name="small")
    found = resolver(small, crowd)
    assert found.egress.rights(WEB) == {OutsideRight("tcp", 443, 443, networks=(network(2),))}
    assert found.egress.left_out() == {WEB: ("crowd",)}
    assert found.egress.allowing(WEB, network(1).network_address) == ()
    found.follow((small,))
    assert found.egress.rights(WEB)
    assert found.egress.left_out() == {}


def test_a_policy_that_would_be_too_many_networks_is_left_out_and_named_and_the_others_hold() -> None:
    halves = tuple(network(number, bits=32) for number in range(MOST_ENDS // 2 + 1))
    large = within(*halves, to=pattern(WEB), name="large")
    larger = IngressPolicy("larger", Cidrs(halves[1:]), pattern(WEB), udp=HTTPS, origin=Origin("f", 1, 1))
    small = IngressPolicy("small", Cidrs((EVERYTHING,)), Pattern("acme", "shop", None), icmp=True, origin=Origin("f", 1, 1))
    found = resolver(large, larger, small)
    assert {each.protocol for each in found.ingress.rights(WEB)} == {"tcp", "icmp"}
    assert found.ingress.left_out() == {WEB: ("larger",)}
    assert [each.name for each in found.ingress.allowing(WEB, IPv4Address("11.0.0.0"))] == ["large", "small"]
    assert found.egress.left_out() == {}
