"""The tunnel's end and the ways to peers: made, kept, changed without a cut, and no burden to a cell that needs neither."""

import itertools
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane.compile import compile_tables
from dataplane.netlink.underlay import clashes
from dataplane.plan import plan
from dataplane.state import HostState
from dataplane.tables import TUNNEL_LINK, KernelRoute, Tables
from host.namespace import run_in
from tests.testlib.hosts import EMPTY, FIRST, Host, allow, cell_state, make_host, make_hosts, subnet_of, underlay_of
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node

PEER, THIRD = subnet_of(2), subnet_of(3)
PEERS_MAC = "02:c2:0a:ff:02:00"
SPREAD = "ip nexthop add id 1 via 10.77.0.9 fdb; ip nexthop add id 9 group 1 fdb"


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Iterator[Host]:
    """The first of three, and the only one that is there."""
    (made,) = make_hosts(netns, count=1, containers=2)
    made.empty = cell_state(1, of=3)
    yield made
    made.close()


def link(host: Host) -> str:
    return host.netns.run("ip", "-d", "addr", "show", "dev", TUNNEL_LINK)


def index(host: Host) -> str:
    return link(host).split(":")[0]


def test_a_tunnel_is_there_as_it_should_be_and_leaves_nothing_to_do(host: Host) -> None:
    outcome = host.become(host.with_workloads(host.workload(0)))
    assert (outcome.failures, outcome.overlay) == ({}, None)
    found = link(host)
    for words in ("vxlan id 1 local 10.77.0.1", "dstport 4789", "nolearning", " gbp", "mtu 1450", "02:c2:0a:ff:01:00", "UP"):
        assert words in found
    assert "inet 10.255.1.0/32" in found
    assert "inet6" not in found
    assert host.netns.run("sysctl", "-n", f"net.ipv4.conf.{TUNNEL_LINK}.rp_filter").strip() == "1"
    assert "10.255.2.0/24 via 10.255.2.0 dev cellnet0 proto 157 onlink" in host.netns.run("ip", "route")
    assert not host.left_to_do(), str(host.left_to_do())


def test_the_tunnel_needs_no_underlay(host: Host) -> None:
    host.netns.run("ip", "link", "del", "u0")
    assert host.become(host.empty).overlay is None
    assert not host.left_to_do(), str(host.left_to_do())


def test_with_the_tunnel_goes_all_that_belongs_to_it(host: Host) -> None:
    host.become(host.empty)
    host.turn(EMPTY)
    assert not host.left_to_do(), str(host.left_to_do())
    assert TUNNEL_LINK not in host.netns.run("ip", "link")
    assert "proto 157" not in host.netns.run("ip", "route")
    assert "10.77.0." not in host.netns.run("ipset", "list")
    saved = host.netns.run("iptables-nft-save")
    assert "4789" not in saved
    assert "-A OUTPUT -j CELLNET-OUTPUT" in saved.split("*filter")[1]
    assert "CELLNET-OUTPUT" not in saved.split("*raw")[1].split("COMMIT")[0]


def test_a_cell_without_a_tunnel_has_nothing_of_it() -> None:
    tables = compile_tables(replace(EMPTY, egress_allowed=True, peers={PEER: underlay_of(2)}))
    assert not any((tables.vteps, tables.fdb, tables.senders, tables.routes, tables.neighbours, tables.links_up))
    assert set(tables.sysctls) == {"net/ipv4/ip_forward"}
    text = str(plan(tables, Tables()))
    assert not re.search("cellnet0|vteps|4789|CONNMARK|raw OUTPUT|raw CELLNET-OUTPUT", text)


@pytest.mark.parametrize(
    "damage",
    [
        "ip link del cellnet0",
        "ip link set cellnet0 down",
        "ip link set cellnet0 mtu 1300",
        "ip link set cellnet0 address 02:00:00:00:00:01",
        "ip link set cellnet0 type vxlan learning",
        "ip link del cellnet0; ip link add cellnet0 type vxlan id 1 dstport 4789 local 10.77.0.1 nolearning",
        "ip link del cellnet0; ip link add cellnet0 type vxlan id 9 dstport 4789 local 10.77.0.1 nolearning gbp",
        "ip addr del 10.255.1.0/32 dev cellnet0",
        "ip addr add 10.255.1.9/32 dev cellnet0",
        "ip route del 10.255.2.0/24",
        "ip route replace 10.255.2.0/24 dev u0 proto 157",
        "ip route add 10.255.9.0/24 via 10.255.9.0 dev cellnet0 onlink proto 157",
        "ip neigh del 10.255.2.0 dev cellnet0",
        "ip neigh replace 10.255.2.0 dev cellnet0 lladdr 02:00:00:00:00:01 nud permanent",
        "ip neigh add 10.255.9.0 dev cellnet0 lladdr 02:00:00:00:00:01 nud permanent",
        f"bridge fdb del {PEERS_MAC} dev cellnet0",
        f"bridge fdb replace {PEERS_MAC} dev cellnet0 dst 10.77.0.9",
        f"{SPREAD}; bridge fdb del {PEERS_MAC} dev cellnet0; bridge fdb add {PEERS_MAC} dev cellnet0 nhid 9",
        f"bridge fdb replace {PEERS_MAC} dev cellnet0 dst 10.77.0.2 port 4790",
        f"bridge fdb replace {PEERS_MAC} dev cellnet0 dst 10.77.0.2 dynamic",
        "bridge fdb append 00:00:00:00:00:00 dev cellnet0 dst 10.77.0.9",
        "ipset del cellnet-vteps 10.77.0.2",
        "ipset add cellnet-vteps 10.77.0.9",
        "ipset -exist add cellnet-vteps 10.77.0.2 skbmark 0xaff0380",
        "sysctl -qw net.ipv4.conf.cellnet0.rp_filter=0",
        "sysctl -qw net.ipv6.conf.cellnet0.disable_ipv6=0",
        "iptables-nft -t raw -D OUTPUT -j CELLNET-OUTPUT",
        "iptables-nft -t mangle -D INPUT -j CELLNET-INPUT",
    ],
)
def test_foreign_damage_is_seen_and_mended(host: Host, damage: str) -> None:
    host.become(host.empty)
    host.netns.run("sh", "-ec", damage)
    assert host.left_to_do()
    assert host.become(host.empty).overlay is None
    assert not host.left_to_do(), str(host.left_to_do())


@pytest.mark.parametrize("what", ["vni", "port", "address"])
def test_a_tunnel_that_must_be_made_anew_keeps_its_peers(host: Host, what: str) -> None:
    host.become(host.empty)
    before = index(host)
    assert host.empty.tunnel
    other = {
        "vni": replace(host.empty.tunnel, vni=7),
        "port": replace(host.empty.tunnel, port=4790),
        "address": replace(host.empty.tunnel, address=IPv4Address("10.77.0.9")),
    }
    state = replace(host.empty, tunnel=other[what])
    assert "~ cellnet0" in str(host.turn(state))
    assert not host.left_to_do(), str(host.left_to_do())
    assert index(host) != before


def test_the_mtu_changes_without_a_cut(host: Host) -> None:
    host.become(host.with_workloads(host.workload(0)))
    before = index(host)
    changes = host.turn(replace(host.state, mtu=1350))
    assert not any((changes.routes, changes.neighbours, changes.fdb, changes.chains))
    assert not host.left_to_do(), str(host.left_to_do())
    assert index(host) == before
    assert "mtu 1350" in link(host)


def peers(**found: int) -> dict[IPv4Network, IPv4Address]:
    """`peers(two=9)`: the second cell is at 10.77.0.9."""
    subnets = {"two": PEER, "three": THIRD, "four": subnet_of(4)}
    return {subnets[name]: underlay_of(number) for name, number in found.items()}


def test_peers_come_move_and_go_without_touching_the_others(host: Host) -> None:
    host.become(host.empty)
    moved = host.turn(replace(host.empty, peers=peers(two=9, three=3)))
    assert [line.split()[:2] for line in str(moved).splitlines()] == [["fdb", "~"], ["senders", "+"], ["senders", "-"]]
    assert not host.left_to_do(), str(host.left_to_do())
    came = host.turn(replace(host.empty, peers=peers(two=9, three=3, four=4)))
    assert (list(came.routes.add), list(came.fdb.add), came.routes.change) == ([subnet_of(4)], ["02:c2:0a:ff:04:00"], {})
    assert not host.left_to_do(), str(host.left_to_do())
    gone = host.turn(replace(host.empty, peers=peers(three=3, four=4)))
    assert list(gone.routes.drop.items()) == [(PEER, KernelRoute(TUNNEL_LINK, PEER.network_address))]
    assert not host.left_to_do(), str(host.left_to_do())
    shown = [host.netns.run(*words) for words in (("ip", "route"), ("ip", "neigh"), ("bridge", "fdb"), ("ipset", "list"))]
    assert not re.search(r"10\.255\.2\.0|10\.77\.0\.9\b", "".join(shown))
    host.turn(replace(host.empty, peers={}))
    assert not host.left_to_do(), str(host.left_to_do())


def two_that_talk(host: Host) -> HostState:
    return host.with_workloads(host.workload(0), host.workload(1, allow(1, "8080")))


def assert_they_talk(host: Host) -> None:
    web, api = (Node(host.containers[number].path, address=FIRST + number) for number in range(2))
    with api.listen(8080):
        assert web.connect(api, 8080) is Connected


@pytest.mark.parametrize(
    ("obstacle", "word"),
    [
        ("ip link add cellnet0 type bridge; ip link set cellnet0 up", "ip link delete cellnet0"),
        ("ip link add vx type vxlan id 1 dstport 4789 local 10.77.0.1 nolearning gbp", "overlay.vni"),
    ],
    ids=["a link of its name", "another tunnel of its number"],
)
def test_what_stands_in_the_tunnels_way_is_reported_and_harms_no_container(host: Host, obstacle: str, word: str) -> None:
    host.netns.run("sh", "-ec", obstacle)
    outcome = host.become(two_that_talk(host))
    assert outcome.overlay is not None
    assert outcome.failures == {}
    assert word in outcome.overlay.hint
    assert_they_talk(host)
    foreign = "cellnet0" if "cellnet0" in obstacle else "vx"
    assert foreign in host.netns.run("ip", "link"), "another program's is left alone"
    assert host.left_to_do()
    host.netns.run("ip", "link", "del", foreign)
    assert host.become(host.state).overlay is None
    assert not host.left_to_do(), str(host.left_to_do())


def test_a_port_that_is_taken_is_reported_and_harms_no_container(host: Host) -> None:
    def taken() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", 4789))
        return made

    with run_in(host.netns.path, taken):
        outcome = host.become(two_that_talk(host))
        assert outcome.overlay is not None
        assert "ss -lnu" in outcome.overlay.hint
        assert_they_talk(host)
    assert host.become(host.state).overlay is None
    assert not host.left_to_do(), str(host.left_to_do())


def test_a_thousand_peers_are_written_and_read_back(host: Host) -> None:
    many = {IPv4Network((0x0AFF0000 + number * 16, 28)): IPv4Address(0x0A4E0000 + number) for number in range(1, 1001)}
    state = replace(host.empty, subnet=IPv4Network("10.255.0.0/28"), peers=many)
    host.become(replace(state, peers={}))
    steps = [time.perf_counter()]
    for peers_of_it in (many, {}, many):
        host.turn(replace(state, peers=peers_of_it))
        steps.append(time.perf_counter())
    used = time.process_time()
    assert not host.left_to_do(), str(host.left_to_do())
    found = host.read(compile_tables(host.state))
    assert len(found.fdb) == len(found.senders) == len(found.routes) == 1000
    told = [round(1000 * (after - before)) for before, after in itertools.pairwise(steps)]
    print(f"1,000 peers written, removed, written: {told} ms; read twice: {1000 * (time.process_time() - used):.0f} ms of CPU")


def test_the_overlays_own_address_and_routes_are_no_clash_but_a_strangers_are(netns: Callable[[str], Netns]) -> None:
    host = make_host(netns, containers=0)
    host.empty = cell_state(1, of=3)
    host.become(host.empty)
    assert not run_in(host.netns.path, lambda: clashes(EMPTY.overlay))
    host.become(EMPTY)
    host.netns.run("sh", "-ec", "ip link add cellnet0 type bridge; ip addr add 10.255.1.0/32 dev cellnet0")
    found = run_in(host.netns.path, lambda: clashes(EMPTY.overlay))
    assert [each.what for each in found] == ["address 10.255.1.0/32 of cellnet0"]
    host.close()
