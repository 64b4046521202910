"""Connections between cells: what is revoked, gone, or another app's ends at both ends, and nothing else does."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from dataplane.flows import conntrack
from dataplane.flows.conntrack import Flow
from host.namespace import run_in
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.hosts import Host, allow
from tests.testlib.netns import Netns
from tests.testlib.node import PATIENCE, Connected, Node, pair
from tests.testlib.patience import eventually
from tests.testlib.two_hosts import DB, OTHER, WEB, TwoHosts, two_hosts

RIGHTS = (allow(WEB, "8080"), allow(WEB, "8080", "udp"), allow(WEB, "9000"))


@pytest.fixture
def cells(netns: Callable[[str], Netns]) -> Iterator[TwoHosts]:
    with two_hosts(netns, permit=RIGHTS) as made:
        yield made


def flows(host: Host) -> tuple[Flow, ...]:
    def listed() -> tuple[Flow, ...]:
        with conntrack.connect() as link:
            return conntrack.flows(link)

    return run_in(host.netns.path, listed)


def exchange(client: Node, server: Node) -> tuple[socket.socket, socket.socket]:
    """Both ends of a UDP flow that has been answered."""
    asking, answering = client.datagrams(5000), server.datagrams(8080)
    asking.connect((str(server.address), 8080))
    asking.settimeout(0.2)
    answering.settimeout(0.2)

    def answered() -> bool:
        with suppress(TimeoutError):  # a link that has just come up may lose what is sent at once
            asking.send(b"?")
            answering.sendto(*answering.recvfrom(9))
            return asking.recv(9) == b"?"
        return False

    eventually(answered)
    asking.settimeout(PATIENCE)
    answering.settimeout(PATIENCE)
    return asking, answering


def test_a_flow_from_another_cell_carries_the_tag_it_came_with(cells: TwoHosts) -> None:
    pair(cells.web, cells.api, 8080)
    exchange(cells.web, cells.api)
    assert {(each.protocol, each.mark) for each in flows(cells.there)} == {(6, WEB), (17, WEB)}
    assert {each.mark for each in flows(cells.here)} == {0}


def test_what_is_allowed_is_left_alone_at_both_cells(cells: TwoHosts) -> None:
    ends = pair(cells.web, cells.api, 8080)
    exchange(cells.web, cells.api)
    for host in (cells.here, cells.there):
        assert not host.sweep()
    assert not cells.there.sweep(cells.api.address)
    assert is_alive(*ends)


@pytest.mark.parametrize("everywhere", [False, True], ids=["one address", "everywhere"])
def test_a_revoked_connection_is_reset_at_both_ends_and_no_other(cells: TwoHosts, everywhere: bool) -> None:
    revoked, kept = pair(cells.web, cells.api, 8080), pair(cells.web, cells.api, 9000)
    cells.there.turn(cells.reached(allow(WEB, "9000")))
    receipt = cells.there.sweep(*() if everywhere else (cells.api.address,))
    assert all(map(is_reset, revoked))
    assert is_alive(*kept)
    assert (len(receipt.flows), receipt.sockets_destroyed, receipt.entries_deleted) == (1, 1, 1)
    assert [each.destination_port for each in flows(cells.there)] == [9000]


def test_a_udp_flow_that_is_revoked_is_refused_and_works_again_when_it_is_allowed(cells: TwoHosts) -> None:
    asking, answering = exchange(cells.web, cells.api)
    cells.there.turn(cells.reached())
    assert cells.there.sweep(cells.api.address).entries_deleted == 1
    asking.send(b"!")
    with pytest.raises(ConnectionRefusedError):
        asking.recv(9)
    cells.there.turn(cells.reached(*RIGHTS))
    asking.send(b"again")
    assert answering.recv(9) == b"again"


def test_a_connection_that_was_opened_while_the_rules_were_gone_is_cut(cells: TwoHosts) -> None:
    """No rule has looked at its tag, whatever it was."""
    saved = cells.there.netns.run("iptables-nft", "-t", "mangle", "-S", "CELLNET-FORWARD").splitlines()
    (remembering,) = [line for line in saved if "CONNMARK" in line]
    cells.there.netns.run("iptables-nft", "-t", "mangle", *remembering.replace("-A", "-D", 1).split())
    cells.there.netns.run("iptables-nft", "-F")
    stolen, allowed = pair(cells.other, cells.api, 8080), pair(cells.web, cells.api, 8080)
    cells.there.become(cells.there.state)
    assert len(cells.there.sweep().flows) == 2
    assert all(map(is_reset, (*stolen, *allowed)))


@pytest.mark.parametrize("gone", ["the one that was called", "the one that called"])
def test_a_container_that_goes_takes_its_connections_with_other_cells_along_at_both_ends(cells: TwoHosts, gone: str) -> None:
    ends, host = pair(cells.web, cells.api, 8080), cells.there if gone == "the one that was called" else cells.here
    address = host.empty.subnet[2]
    host.turn(replace(host.state, workloads={key: each for key, each in host.state.workloads.items() if key != address}))
    host.sweep(address)
    assert all(map(is_reset, ends))
    assert not flows(host)


def test_a_container_that_goes_has_its_connections_on_its_own_cell_cut_as_ever(cells: TwoHosts) -> None:
    cells.there.turn(cells.there.with_workloads(
        cells.workloads(cells.there)[0], replace(cells.workloads(cells.there)[1], allows=frozenset((allow(3, "5432"),)))
    ))  # fmt: skip
    ends = pair(cells.api, cells.db, 5432)
    cells.there.turn(cells.there.with_workloads(cells.workloads(cells.there)[0]))
    receipt = cells.there.sweep(cells.db.address)
    assert receipt.sockets_destroyed == 1
    assert is_reset(ends[0])


@pytest.mark.parametrize("now", [0, OTHER], ids=["nobody", "another app"])
def test_no_container_inherits_the_flows_of_one_that_has_left_another_cell(cells: TwoHosts, now: int) -> None:
    exchange(cells.web, cells.api)
    ends = pair(cells.web, cells.api, 8080)
    assert not cells.there.sweep(departed={cells.web.address: WEB}), "it has come back as it was"
    receipt = cells.there.sweep(departed={cells.web.address: now, cells.other.address: 0})
    assert {each.protocol for each in receipt.flows} == {6, 17}
    assert all(map(is_reset, ends))
    assert not flows(cells.there)


def test_a_peer_that_is_removed_has_its_connections_cut_in_both_directions(cells: TwoHosts) -> None:
    cells.here.turn(cells.here.with_workloads(
        cells.workloads(cells.here, allow(DB, "9090"))[0], cells.workloads(cells.here)[1]
    ))  # fmt: skip
    out, into = pair(cells.web, cells.api, 8080), pair(cells.db, cells.web, 9090)
    cells.here.turn(replace(cells.here.state, peers={}))
    assert len(cells.here.sweep().flows) == 2
    assert is_reset(out[0])
    assert is_reset(into[1])
    assert not flows(cells.here)


def test_the_cells_own_calls_to_its_containers_are_left_alone(cells: TwoHosts) -> None:
    cell = cells.cell(cells.there)
    listener = cells.api.listen(8080)
    client = run_in(
        cell.pin, lambda: socket.create_connection((str(cells.api.address), 8080), source_address=("10.255.2.0", 0))
    )
    server = cells.api.keep(listener.accept()[0])
    assert not cells.there.sweep()
    assert is_alive(client, server)
    client.close()
    assert cell.connect(cells.api, 8080) is Connected
