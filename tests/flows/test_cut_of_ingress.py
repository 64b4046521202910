"""What the outside may no longer reach is cut at both ends, and nothing else: not what the host itself has opened."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from dataplane.firewall.outside_matches import EVERYWHERE
from dataplane.state import HostState, OutsideRight, PublishedPort
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.hosts import underlay_of
from tests.testlib.netns import Netns
from tests.testlib.node import Node, Refused
from tests.testlib.outside import caller, served
from tests.testlib.two_hosts import TwoHosts, two_hosts

NEAR, FAR = "198.18.1.1", "198.18.200.1"
HERE = str(underlay_of(1))
PUBLISHED, PORT = 8000, 5000
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def cells(netns: Callable[[str], Netns]) -> Iterator[TwoHosts]:
    with two_hosts(netns) as made:
        yield made


@pytest.fixture
def world(cells: TwoHosts) -> Iterator[Node]:
    made = cells.world()
    with served(made):
        yield made


def right(*networks: str, protocol: str = "tcp", first: int = 1, last: int = 65535) -> OutsideRight:
    return OutsideRight(protocol, first, last, tuple(map(IPv4Network, networks)) or EVERYWHERE)


def state(cells: TwoHosts, *rights: OutsideRight) -> HostState:
    """Web and other publish ports; web may be called by these, other by all."""
    web, other = cells.workloads(cells.here)
    published = [PublishedPort(protocol, None, PUBLISHED, PUBLISHED + 9, PORT) for protocol in ("tcp", "udp")]
    beside = PublishedPort("tcp", None, 9000, 9000, PORT)
    return cells.here.with_workloads(
        replace(web, publish=tuple(published), ingress=frozenset(rights)),
        replace(other, publish=(beside,), ingress=frozenset({right()})),
    )


def pair(client: Node, server: Node, dialled: str = HERE, port: int = PUBLISHED, *, to: int = PORT) -> Ends:
    """Both ends of a connection that was led to a container."""
    with server.listen(to) as listener:
        asking = client.dial(dialled, port)
        return asking, server.keep(listener.accept()[0])


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "of the app that lost it"])
def test_networks_that_are_taken_away_take_their_connections_along(cells: TwoHosts, world: Node, everywhere: bool) -> None:
    cells.here.become(state(cells, right()))
    gone, kept = pair(caller(world, FAR), cells.web), pair(caller(world, NEAR), cells.web)
    others, hosts = pair(caller(world, FAR), cells.other, port=9000), pair(cells.cell(cells.here), cells.web)
    straight = pair(cells.cell(cells.here), cells.web, str(cells.web.address), PORT)
    cells.here.become(state(cells, right("198.18.0.0/17")))
    receipt = cells.here.sweep(*() if everywhere else (cells.web.address,))
    assert [(str(flow.source), flow.reply_source_port) for flow in receipt.flows] == [(FAR, PORT)]
    assert receipt.sockets_destroyed == 1
    assert all(map(is_reset, gone))
    for ends in (kept, others, hosts, straight):
        assert is_alive(*ends)
    assert caller(world, FAR).connect(HERE, PUBLISHED) is Refused


def test_ports_and_protocols_that_are_taken_away_take_theirs(cells: TwoHosts, world: Node) -> None:
    cells.here.become(state(cells, right(), right(protocol="udp")))
    above, below = pair(world, cells.web, port=PUBLISHED + 1, to=PORT + 1), pair(world, cells.web)
    asking, answering = world.datagrams(), cells.web.datagrams(PORT)
    asking.connect((HERE, PUBLISHED))
    asking.send(b"!")
    answering.connect(answering.recvfrom(1)[1])
    answering.send(b"!")
    assert asking.recv(1) == b"!"
    cells.here.become(state(cells, right(first=PORT + 1)))
    receipt = cells.here.sweep(cells.web.address)
    assert sorted((flow.protocol, flow.reply_source_port) for flow in receipt.flows) == [
        (socket.IPPROTO_TCP, PORT), (socket.IPPROTO_UDP, PORT),
    ]  # fmt: skip
    assert all(map(is_reset, below))
    assert is_alive(*above)
    for end in (asking, answering):
        end.send(b"!")
        with pytest.raises(ConnectionRefusedError):
            end.recv(1)


def test_what_was_open_by_default_is_cut_when_it_is_not_any_longer(cells: TwoHosts, world: Node) -> None:
    closed = state(cells)
    cells.here.become(replace(closed, ingress_allowed=True))
    ends = pair(world, cells.web)
    assert not cells.here.sweep()
    cells.here.become(closed)
    assert len(cells.here.sweep().flows) == 1
    assert all(map(is_reset, ends))


def test_what_came_straight_in_while_the_rules_were_gone_is_cut(cells: TwoHosts, world: Node) -> None:
    open_ = replace(state(cells, right()), ingress_allowed=True)
    cells.here.become(open_)
    world.run("ip", "route", "add", f"{cells.web.address}/32", "via", HERE)
    cells.here.netns.run("iptables", "-F", "CELLNET-FORWARD")
    gone, kept = pair(world, cells.web, str(cells.web.address), PORT), pair(world, cells.web)
    cells.here.become(open_)
    assert len(cells.here.sweep().flows) == 1
    assert all(map(is_reset, gone))
    assert is_alive(*kept)


def test_a_container_that_goes_takes_what_has_called_it_along(cells: TwoHosts, world: Node) -> None:
    cells.here.become(state(cells, right()))
    ends = pair(world, cells.web)
    cells.here.become(cells.here.with_workloads(cells.workloads(cells.here)[1]))
    assert len(cells.here.sweep(cells.web.address).flows) == 1
    ends[0].send(b"!")
    assert is_reset(ends[0])
