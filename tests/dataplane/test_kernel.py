"""The kernel tables on a real kernel: what is planned is what is there afterwards, from any state."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.compile import compile_tables
from dataplane.detachment import clear_namespace
from dataplane.firewall.backends.driver import Firewall
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.plan import plan
from dataplane.state import Allow, HostService, MutualTls
from host.errors import HostRefused
from tests.testlib.beds.redirect import held_by_root
from tests.testlib.envoy import ENVOY_ID
from tests.testlib.hosts import EMPTY, FIRST, Host, allow, make_host
from tests.testlib.netns import Netns

pytestmark = pytest.mark.release

STRICT = MutualTls(served=True, redirected=True, plain=False)
BACKENDS: dict[str, Firewall] = {"nft": NftFirewall(), "legacy": LegacyFirewall()}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(netns: Callable[[str], Netns], backend: str) -> Iterator[Host]:
    made = make_host(netns, containers=3, firewall=BACKENDS[backend])
    yield made
    made.kernel.close()


def test_an_applied_state_leaves_nothing_to_do(host: Host) -> None:
    web, api = host.workload(0), host.workload(1, allow(1, "8080"), allow(1, "53-60", "udp"), allow(3, "1-65535"))
    assert host.become(host.with_workloads(web, api)).failures == {}
    assert not host.left_to_do(), str(host.left_to_do())


def test_every_kind_of_rule_reads_back_as_it_was_written(host: Host) -> None:
    state = host.with_workloads(host.workload(0, *(allow(n, str(n), "udp") for n in range(1, 40))))
    services = (HostService("tcp", 9001), HostService("udp", 53))
    host.become(replace(state, egress_allowed=True, host_services=services))
    assert not host.left_to_do(), str(host.left_to_do())


def test_the_empty_state_takes_everything_away_but_the_fixed_rules(host: Host, backend: str) -> None:
    host.become(host.with_workloads(host.workload(0), host.workload(1)))
    host.become(EMPTY)
    assert "cnet" not in host.netns.run("ip", "link")
    assert "10.255" not in host.netns.run("ip", "route")
    assert "0aff01" not in host.netns.run(f"iptables-{backend}-save")
    assert host.netns.run("ipset", "list", "cellnet-tags").endswith("Members:\n")


def test_containers_that_go_together_take_nothing_else_along(host: Host) -> None:
    host.become(host.with_workloads(*(host.workload(number) for number in range(3))))
    for name in ("cni0", "cnetwork"):
        host.netns.run("ip", "link", "add", name, "type", "bridge")
    host.netns.run("ip", "link", "del", "cnet0aff0103")  # gone before it could be removed
    host.become(host.with_workloads(host.workload(2)))
    links = host.netns.run("ip", "-o", "link")
    assert [name in links for name in ("cnet0aff0102", "cnet0aff0103", "cnet0aff0104", "cni0", "cnetwork", "u0")] == [
        False, False, True, True, True, True
    ]  # fmt: skip
    assert not host.left_to_do(), str(host.left_to_do())


def test_a_namespace_that_is_left_has_nothing_of_ours(host: Host) -> None:
    place, workload = host.containers[0], host.workload(0)

    def inside() -> list[str]:
        return [*(place.run("ip", "-4", what) for what in ("rule", "route", "address")), place.run("sysctl", "net.ipv4")]

    before = inside()
    host.become(host.with_workloads(workload))
    assert "fwmark" in place.run("ip", "rule")
    host.become(EMPTY)
    clear_namespace(workload.pin, address=workload.address, envoy=ENVOY_ID)
    assert inside() == before


def test_a_redirect_that_root_has_removed_is_found_in_a_look_and_mended(host: Host) -> None:
    """A turn between looks takes it as known."""
    state = replace(host.with_workloads(host.workload(0), host.workload(1)), mutual_tls=STRICT)
    host.become(state)
    assert not host.left_to_do(), str(host.left_to_do())
    tables = compile_tables(state)
    host.containers[0].run("nft", "flush", "ruleset")
    assert host.kernel.read(tables, known=tables.interiors).result().interiors == tables.interiors
    found = host.kernel.read(tables, known=tables.interiors, again=True).result()
    assert found.interiors.keys() == {host.workload(1).address}
    host.kernel.apply(plan(tables, found), tables).result()
    assert not host.left_to_do(), str(host.left_to_do())


def test_a_container_whose_redirect_is_refused_stands_in_no_others_way(host: Host) -> None:
    good, bad = host.workload(0), host.workload(1)
    state = replace(host.with_workloads(good, bad), mutual_tls=STRICT)
    with held_by_root(host.containers[1]):
        outcome = host.become(state)
    assert list(outcome.failures) == [bad.address]
    assert "nftables cellnet" in outcome.failures[bad.address].what
    host.become(state)
    assert not host.left_to_do(), str(host.left_to_do())


def test_ip_forward_is_part_of_the_state(host: Host) -> None:
    assert host.netns.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"
    host.become(EMPTY)
    assert host.netns.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"


@pytest.mark.parametrize(
    "damage",
    [
        "iptables-nft -F CELLNET-FORWARD",
        "iptables-nft -D FORWARD -j CELLNET-FORWARD",
        "iptables-nft -I FORWARD 1 -j ACCEPT",
        "iptables-nft -t raw -F",
        "ip6tables-nft -t raw -F",
        "ipset flush cellnet-tags",
        "ipset add cellnet-tags 10.255.1.99 skbmark 0x1/0xffff",
        "ip link del cnet0aff0102",
        "ip link set cnet0aff0102 down",
        "ip route del 10.255.1.2/32",
        "ip route add 10.255.1.200/32 dev cnet0aff0102 proto 157",
        "ip neigh del 10.255.1.2 dev cnet0aff0102",
        "ip link set cnet0aff0102 mtu 1300",
        "sysctl -qw net.ipv4.conf.cnet0aff0102.rp_filter=0",
    ],
)
def test_foreign_damage_is_seen_and_mended(host: Host, damage: str, backend: str) -> None:
    state = host.with_workloads(host.workload(0), host.workload(1, allow(1, "8080")))
    host.become(state)
    host.netns.run(*damage.replace("-nft", f"-{backend}").split())
    assert host.left_to_do()
    host.become(state)
    assert not host.left_to_do(), str(host.left_to_do())


def test_a_rule_that_cannot_accept_may_stand_before_our_jump(host: Host, backend: str) -> None:
    host.become(host.with_workloads(host.workload(0)))
    host.netns.run(f"iptables-{backend}", "-I", "FORWARD", "1", "-s", "192.0.2.1", "-j", "DROP")
    assert not host.left_to_do(), str(host.left_to_do())
    host.netns.run(f"iptables-{backend}", "-N", "DOCKER-USER")
    host.netns.run(f"iptables-{backend}", "-I", "FORWARD", "1", "-j", "DOCKER-USER")
    assert host.left_to_do().jumps


def test_a_second_jump_of_ours_is_one_too_many(host: Host, backend: str) -> None:
    host.become(host.with_workloads(host.workload(0)))
    host.netns.run(f"iptables-{backend}", "-A", "FORWARD", "-j", "CELLNET-FORWARD")
    host.become(host.state)
    assert host.netns.run(f"iptables-{backend}", "-S", "FORWARD").count("CELLNET-FORWARD") == 1


def test_a_foreign_rule_is_left_alone(host: Host, backend: str) -> None:
    host.netns.run(f"iptables-{backend}", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    host.netns.run(f"iptables-{backend}", "-N", "DOCKER-USER")
    host.become(host.with_workloads(host.workload(0)))
    host.become(EMPTY)
    saved = host.netns.run(f"iptables-{backend}-save")
    assert "-A INPUT -s 192.0.2.1/32 -j DROP" in saved
    assert ":DOCKER-USER" in saved


def test_one_container_that_has_gone_does_not_stop_the_others(host: Host) -> None:
    good, gone = host.workload(0), host.workload(1)
    host.containers[1].close()
    outcome = host.become(host.with_workloads(good, gone))
    assert list(outcome.failures) == [FIRST + 1]
    assert "cnet0aff0102" in host.netns.run("ip", "link")


def test_a_link_with_our_name_that_is_not_ours_is_refused(host: Host) -> None:
    host.netns.run("ip", "link", "add", "cnet0aff0102", "type", "bridge")
    outcome = host.become(host.with_workloads(host.workload(0)))
    assert isinstance(outcome.failures[FIRST], HostRefused)


def test_the_host_end_has_no_ipv6_and_the_container_no_arp(host: Host) -> None:
    host.become(host.with_workloads(host.workload(0)))
    assert "inet6" not in host.netns.run("ip", "addr", "show", "dev", "cnet0aff0102")
    assert "PERMANENT" in host.containers[0].run("ip", "neigh", "show", "169.254.0.1")
    assert "PERMANENT" in host.netns.run("ip", "neigh", "show", "10.255.1.2")


rights = st.frozensets(
    st.builds(allow, st.integers(1, 5), st.sampled_from(["8080", "53-60", "1-65535"]), st.sampled_from(["tcp", "udp"])),
    max_size=4,
)


modes = st.builds(MutualTls, served=st.booleans(), redirected=st.booleans(), plain=st.booleans())
states = st.tuples(st.dictionaries(st.integers(0, 2), rights, max_size=3), modes)


@given(steps=st.lists(states, min_size=2, max_size=5))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_from_any_state_to_any_state(host: Host, steps: list[tuple[dict[int, frozenset[Allow]], MutualTls]]) -> None:
    for containers, mode in steps:
        workloads = (host.workload(number, *allows) for number, allows in containers.items())
        host.become(replace(host.with_workloads(*workloads), mutual_tls=mode))
        assert not host.left_to_do(), str(host.left_to_do())
