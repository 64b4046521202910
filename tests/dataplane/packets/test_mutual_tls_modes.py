"""What gets to containers in each mode of mutual TLS, on the real kernel: on one cell and between two, and what a change cuts.

web and other are on the first cell, api and db on the second. No Envoy: what answers on 15008 stands for it.
"""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dataplane.firewall.backends.backends import Backend, firewall
from dataplane.flows.cut import Receipt
from dataplane.state import INBOUND_PORT, Allow, HostState, MutualTls
from dataplane.tables import TUNNEL_LINK
from host.namespace import run_in
from tests.testlib.attacks.attacker import capture
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.hosts import Host, allow
from tests.testlib.netns import Netns
from tests.testlib.node import Node, Refused, connect_at_once, outcome_of, pair, reachable_ports
from tests.testlib.oracle import Mode
from tests.testlib.tunnels.modes import BACK, MODES
from tests.testlib.two_hosts import API, DB, OTHER, WEB, TwoHosts, two_hosts

ORG, TLS = "acme/*/*", 61443
TO_API = (
    allow(WEB, "8080"), allow(WEB, "8081"), allow(WEB, "7000", "udp"), allow(OTHER, "61443"), allow(OTHER, "7000", "udp"),
    Allow(0, "tcp", 9000, 9000, ORG),
)  # fmt: skip
PORTS = (8080, 9000, 15001, INBOUND_PORT, TLS)
REACHED = {
    Mode.NONE: {"web": {8080}, "other": {TLS}, "db": {9000}},
    Mode.ACCEPT: {"web": {8080, INBOUND_PORT}, "other": {TLS}, "db": {9000, INBOUND_PORT}},
    Mode.STRICT: {"web": {INBOUND_PORT}, "other": {TLS}, "db": {INBOUND_PORT}},
}
# from each to each other
WALK = (Mode.NONE, Mode.ACCEPT, Mode.STRICT, Mode.NONE, Mode.STRICT, Mode.ACCEPT, Mode.NONE)
NO_COOKIE, DATA = 34, b"first packet's data"  # TCP_FASTOPEN_NO_COOKIE


@pytest.fixture(params=Backend, ids=lambda each: each.value)
def cells(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    with two_hosts(netns, firewalls=[firewall(request.param) for _ in range(2)]) as made:
        made.here.turn(made.here.with_workloads(*made.workloads(made.here, allow(API, "8080"))))
        made.there.turn(replace(made.reached(*TO_API), groups={ORG: frozenset({DB})}))
        yield made


def enter(cells: TwoHosts, mode: MutualTls, *hosts: Host) -> None:
    for host in hosts or (cells.here, cells.there):
        host.turn(replace(host.state, mutual_tls=mode))


def enter_swept(cells: TwoHosts, mode: MutualTls, *hosts: Host) -> list[Receipt]:
    """Enter a mode as a turn of the loop does; what is cut everywhere."""
    enter(cells, mode, *hosts)
    return [host.sweep() for host in hosts or (cells.here, cells.there)]


def with_rights(cells: TwoHosts, *rights: Allow) -> HostState:
    changed = replace(cells.there.state.workloads[cells.api.address], allows=frozenset(rights))
    return replace(cells.there.state, workloads={**cells.there.state.workloads, cells.api.address: changed})


def plain_flows(host: Host) -> int:
    return host.kernel.plain_flows(host.state).result()


def gets_a_datagram(client: Node, server: Node) -> bool:
    with client.datagrams() as asking, server.datagrams(7000) as answering:
        asking.sendto(b"?", (str(server.address), 7000))
        return answering.recv(9) == b"?"


def test_each_mode_lets_in_what_rights_stand_for_in_it_from_whatever_mode_it_is_entered(cells: TwoHosts) -> None:
    listeners = [cells.api.listen(port) for port in PORTS]
    for mode in WALK:
        enter(cells, MODES[mode])
        for host in (cells.here, cells.there):
            assert not host.left_to_do(), str(host.left_to_do())
        callers = {"web": cells.web, "other": cells.other, "db": cells.db}
        assert {name: reachable_ports(each, cells.api, PORTS) for name, each in callers.items()} == REACHED[mode], mode
        assert gets_a_datagram(cells.web, cells.api)
        assert gets_a_datagram(cells.other, cells.api)
    assert listeners


def test_entering_accept_cuts_nothing_and_entering_strict_what_is_plain_at_both_ends(cells: TwoHosts) -> None:
    across, back, beside = pair(cells.web, cells.api, 8080), pair(cells.api, cells.web, 8080), pair(cells.db, cells.api, 9000)
    plain = (*across, *back, *beside)
    assert enter_swept(cells, MODES[Mode.ACCEPT])[0].entries_deleted == 0
    tunnels = pair(cells.web, cells.api, INBOUND_PORT), pair(cells.db, cells.api, INBOUND_PORT)
    kept = (*tunnels, pair(cells.other, cells.api, TLS))
    assert all(is_alive(*ends) for ends in (across, back, beside, *kept))
    assert (plain_flows(cells.here), plain_flows(cells.there)) == (2, 3)
    (receipt,) = enter_swept(cells, MODES[Mode.STRICT], cells.here)
    assert {(each.source, each.destination) for each in receipt.flows} == {
        (cells.web.address, cells.api.address), (cells.api.address, cells.web.address),
    }  # fmt: skip
    assert all(map(is_reset, plain[:4]))
    assert is_alive(*beside)
    assert (plain_flows(cells.here), plain_flows(cells.there)) == (0, 1)
    (receipt,) = enter_swept(cells, MODES[Mode.STRICT], cells.there)
    assert [each.source for each in receipt.flows] == [cells.db.address]
    assert all(map(is_reset, beside))
    assert plain_flows(cells.there) == 0
    assert not any(host.sweep() for host in (cells.here, cells.there))
    assert not cells.there.sweep(cells.api.address)
    assert not any(enter_swept(cells, MODES[Mode.ACCEPT]) + enter_swept(cells, BACK))
    assert all(is_alive(*ends) for ends in kept)


def test_a_cell_that_enters_strict_cuts_what_cells_in_accept_send_to_it(cells: TwoHosts) -> None:
    enter(cells, MODES[Mode.ACCEPT])
    ends = pair(cells.web, cells.api, 8080)
    (receipt,) = enter_swept(cells, MODES[Mode.STRICT], cells.there)
    assert [each.source for each in receipt.flows] == [cells.web.address]
    assert all(map(is_reset, ends))
    with cells.api.listen(8080):
        assert connect_at_once(cells.web, cells.api, 8080) is Refused


def test_connections_that_have_ended_are_not_counted_as_plain_nor_in_a_receipt(cells: TwoHosts) -> None:
    for end in pair(cells.web, cells.api, 8080):
        end.close()
    assert [plain_flows(host) for host in (cells.here, cells.there)] == [0, 0]
    receipts = enter_swept(cells, MODES[Mode.STRICT])
    assert not any(receipts)
    assert [each.entries_deleted for each in receipts] == [1, 1]


def test_tunnels_of_an_app_end_with_its_last_right_on_tcp_and_no_others(cells: TwoHosts) -> None:
    enter(cells, MODES[Mode.STRICT])
    webs, members = pair(cells.web, cells.api, INBOUND_PORT), pair(cells.db, cells.api, INBOUND_PORT)
    cells.there.turn(with_rights(cells, *TO_API[1:]))
    assert not cells.there.sweep(cells.api.address)
    cells.there.turn(with_rights(cells, *TO_API[2:]))
    assert [each.source for each in cells.there.sweep(cells.api.address).flows] == [cells.web.address]
    assert all(map(is_reset, webs))
    assert is_alive(*members)
    cells.there.turn(replace(cells.there.state, groups={ORG: frozenset()}))
    assert cells.there.sweep(cells.api.address)
    assert all(map(is_reset, members))


@pytest.mark.parametrize("mode", [Mode.NONE, Mode.STRICT])
def test_data_of_a_first_packet_leaves_its_cell_only_where_plain_tcp_may(cells: TwoHosts, mode: Mode) -> None:
    """Sent as TCP Fast Open without a cookie."""
    enter(cells, MODES[mode])
    arriving = Node(cells.there.netns.path, address=cells.there.empty.subnet[0])
    fast = cells.web.keep(run_in(cells.web.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)))
    fast.setsockopt(socket.IPPROTO_TCP, NO_COOKIE, 1)
    with cells.api.listen(8080) as listener, capture(arriving, TUNNEL_LINK) as listening:
        fast.sendto(DATA, socket.MSG_FASTOPEN, (str(cells.api.address), 8080))
        if mode is Mode.NONE:
            assert cells.api.keep(listener.accept()[0]).recv(99) == DATA
        else:
            assert outcome_of(lambda: fast.recv(1)) is Refused
            assert gets_a_datagram(cells.web, cells.api)
        seen = b"".join(map(bytes, listening.pending()))
    assert (DATA in seen) is (mode is Mode.NONE)
