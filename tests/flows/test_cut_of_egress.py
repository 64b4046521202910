"""What an app may no longer reach outside is cut at both ends, and nothing else of it."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane.firewall.outside_matches import EVERYWHERE
from dataplane.state import HostState, OutsideRight
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.hosts import WORLD, allow
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused, pair, udp_pair
from tests.testlib.outside import served
from tests.testlib.two_hosts import WEB, TwoHosts, two_hosts

NEAR, FAR = "198.18.1.1", "198.18.200.1"
BOTH = (IPv4Network("198.18.0.0/15"), IPv4Network(WORLD))[::-1]
PORT = 5000


@pytest.fixture
def cells(netns: Callable[[str], Netns]) -> Iterator[TwoHosts]:
    with two_hosts(netns, permit=[allow(WEB, "8080")]) as made:
        yield made


@pytest.fixture
def world(cells: TwoHosts) -> Iterator[Node]:
    made = cells.world()
    with served(made):
        yield made


def at(world: Node, address: str) -> Node:
    """The host outside, known by one of its many addresses."""
    return Node(world.pin, address=IPv4Address(address))


def tcp(networks: tuple[IPv4Network, ...], first: int = 1, last: int = 65535) -> OutsideRight:
    return OutsideRight("tcp", first, last, networks)


def state(cells: TwoHosts, *rights: OutsideRight) -> HostState:
    """Web has these, and other may go everywhere."""
    web, other = cells.workloads(cells.here)
    everywhere = frozenset(OutsideRight(each, 1, 65535, EVERYWHERE) for each in ("tcp", "udp"))
    return cells.here.with_workloads(replace(web, egress=frozenset(rights)), replace(other, egress=everywhere))


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "of the app that lost it"])
def test_networks_that_are_taken_away_take_their_connections_along(cells: TwoHosts, world: Node, everywhere: bool) -> None:
    cells.here.become(state(cells, tcp(BOTH)))
    near, far = at(world, NEAR), at(world, FAR)
    gone, kept, others = pair(cells.web, far, PORT), pair(cells.web, near, PORT), pair(cells.other, far, PORT)
    inside = pair(cells.web, cells.api, 8080)
    cells.here.become(state(cells, tcp((IPv4Network("198.18.0.0/17"),))))
    receipt = cells.here.sweep(*() if everywhere else (cells.web.address,))
    assert [(flow.source, str(flow.reply_source), flow.reply_source_port) for flow in receipt.flows] == [
        (cells.web.address, FAR, PORT)
    ]
    assert receipt.sockets_destroyed == 1
    assert all(map(is_reset, gone))
    for ends in (kept, others, inside):
        assert is_alive(*ends)
    assert cells.web.connect(FAR, PORT) is Refused


def test_ports_and_protocols_that_are_taken_away_take_theirs(cells: TwoHosts, world: Node) -> None:
    udp = OutsideRight("udp", PORT, PORT, BOTH)
    cells.here.become(state(cells, tcp(BOTH), udp, OutsideRight("icmp", 0, 0, BOTH)))
    above, below = pair(cells.web, world, PORT + 1), pair(cells.web, world, PORT)
    asking, answering = udp_pair(cells.web, world, PORT)
    assert cells.web.ping(NEAR, number=5) is Connected
    cells.here.become(state(cells, tcp(BOTH, PORT + 1)))
    receipt = cells.here.sweep(cells.web.address)
    assert sorted((flow.protocol, flow.reply_source_port) for flow in receipt.flows) == [
        (socket.IPPROTO_ICMP, 0), (socket.IPPROTO_TCP, PORT), (socket.IPPROTO_UDP, PORT),
    ]  # fmt: skip
    assert all(map(is_reset, below))
    assert is_alive(*above)
    asking.send(b"!")
    with pytest.raises(ConnectionRefusedError):
        asking.recv(1)
    assert cells.web.ping(NEAR, number=5) is Refused
    cells.here.become(state(cells, tcp(BOTH), udp))
    asking.send(b"!")
    assert answering.recv(1) == b"!", "allowed again, at once"


def test_what_becomes_never_outside_is_cut_whatever_right_there_is(cells: TwoHosts, world: Node) -> None:
    for default in (False, True):
        open_ = replace(state(cells, tcp(BOTH)), egress_allowed=default)
        cells.here.become(open_)
        gone, kept = pair(cells.web, at(world, FAR), PORT), pair(cells.web, at(world, NEAR), PORT)
        cells.here.become(replace(open_, never_outside=(IPv4Network(FAR),)))
        assert len(cells.here.sweep().flows) == 1
        assert all(map(is_reset, gone))
        assert is_alive(*kept)


def test_what_began_while_the_rules_were_gone_is_cut(cells: TwoHosts, world: Node) -> None:
    cells.here.become(state(cells, tcp((IPv4Network(f"{NEAR}/32"),))))
    host = cells.here.netns
    host.run("iptables", "-F", "CELLNET-FORWARD")
    gone, kept = pair(cells.web, at(world, FAR), PORT), pair(cells.web, at(world, NEAR), PORT)
    cells.here.become(cells.here.state)
    assert len(cells.here.sweep().flows) == 1
    assert all(map(is_reset, gone))
    assert is_alive(*kept)


def test_a_container_that_goes_takes_its_connections_with_the_outside_along(cells: TwoHosts, world: Node) -> None:
    cells.here.become(state(cells, tcp(BOTH)))
    ends = pair(cells.web, world, PORT)
    cells.here.become(cells.here.with_workloads(cells.workloads(cells.here)[1]))
    assert len(cells.here.sweep(cells.web.address).flows) == 1
    ends[1].send(b"!")
    assert is_reset(ends[1]), "by the cell itself, which has forgotten it"
