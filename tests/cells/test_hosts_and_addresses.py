"""Cells themselves and what is beside the overlay; and addresses that are given again. One container a cell: the next has its
address at once.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from agent.client.connection import attachment_address
from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import is_refused, is_reset
from tests.testlib.containers import ServingContainer
from tests.testlib.instance import TLS_PORT
from tests.testlib.node import Connected, Node, Refused, connect_at_once, pair, reachable_ports
from tests.testlib.shop import API, OTHER, WEB, policies

PUBLISHED, SERVICE = 7080, 9001
ELSEWHERE = "192.0.2.9"
ALL = policies(f"from: same-org, to: {API}, tcp: any, udp: any", f"from: {WEB}, to: {WEB}, tcp: any, udp: any")


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return "overlay.cell_prefix=30", "egress.default=allow", f"host_services=[{{protocol: tcp, port: {SERVICE}}}]"


# hosts


def test_a_cell_reaches_its_own_containers_and_not_those_of_others(cells: CellsUnderTest, place: Place) -> None:
    api = place(2, API, 8080)
    cells[2].policy_file("all.yaml", ALL)
    assert (reachable_ports(cells[2].host, api, (8080, TLS_PORT)), cells[2].host.udp(api, 8080)) == (
        {8080, TLS_PORT},
        Connected,
    )
    for stranger in (cells[1].host, cells[3].host):
        assert (reachable_ports(stranger, api, (8080, TLS_PORT)), stranger.udp(api, 8080)) == (set(), Refused)


def test_containers_reach_no_cells_host_by_any_address(cells: CellsUnderTest, place: Place) -> None:
    """They may leave the overlay, and their own cell has a service for them."""
    web = place(1, WEB)
    cells[2].policy_file("all.yaml", ALL)
    for each in cells:
        each.host.listen(9000)
        each.host.listen(SERVICE)
    outside = cells[1].outside
    outside.run("ip", "addr", "replace", f"{ELSEWHERE}/32", "dev", "lo")  # etcd's own address is none that containers reach
    cells[1].host.run("ip", "route", "replace", f"{ELSEWHERE}/32", "via", str(outside.address))
    outside.listen(9000)
    assert connect_at_once(web, ELSEWHERE, 9000) is Connected
    assert connect_at_once(web, outside, 9000) is Refused
    assert connect_at_once(web, cells[1].host, SERVICE) is Connected
    assert connect_at_once(cells[1].host, cells[2].host, SERVICE) is Connected  # the hosts themselves are no business of ours
    for cell in (cells[2], cells[3]):
        for target in addresses(cell):
            assert reachable_ports(web, target, (9000, SERVICE)) == set(), target
            assert web.udp(target, 9000) is Refused, target
    for target in addresses(cells[1]):
        assert connect_at_once(web, target, 9000) is Refused, target


def addresses(cell: CellUnderTest) -> list[str]:
    """All that a host has, but for what every host has, and those of its part of the overlay that no container has."""
    lines = cell.host.run("ip", "-4", "-o", "addr").splitlines()
    own = {line.split()[3].partition("/")[0] for line in lines} - {"127.0.0.1", "169.254.0.2"}
    first = cell.status().at("cell").text("subnet").partition("/")[0]
    assert {str(cell.host.address), first} <= own
    return sorted(own)


# published ports


@contextmanager
def published(cell: CellUnderTest, target: ServingContainer, *, to: str = "") -> Iterator[None]:
    """Another program's rules on a cell's host send a port of its address, or of any address, to a container."""
    where = ("-d", to) if to else ()
    rules = [("PREROUTING", "-p", kind, *where, "--dport", str(PUBLISHED), "-j", "DNAT", "--to", f"{target.address}:8080")
             for kind in ("tcp", "udp")]  # fmt: skip
    for rule in rules:
        cell.host.run("iptables-nft", "-t", "nat", "-A", *rule)
    try:
        yield
    finally:
        for rule in rules:
            cell.host.run("iptables-nft", "-t", "nat", "-D", *rule)


def test_a_published_port_of_another_cell_is_for_others_and_not_for_containers(cells: CellsUnderTest, place: Place) -> None:
    """Not even for those that a policy allows: they are to call the container by its own address."""
    web, api = place(1, WEB), place(2, API, 8080)
    cells[2].policy_file("all.yaml", ALL)
    cells[2].policy_file("in.yaml", policies(f"from: {{cidr: 0.0.0.0/0}}, to: {API}, tcp: any, udp: any"))
    with published(cells[2], api, to=str(cells[2].host.address)):
        assert cells[1].outside.get(cells[2].host, PUBLISHED) == f"hello {cells[1].outside.address}\n"
        assert connect_at_once(cells[1].host, cells[2].host, PUBLISHED) is Connected
        assert (connect_at_once(web, cells[2].host, PUBLISHED), web.udp(cells[2].host, PUBLISHED)) == (Refused, Refused)
        assert connect_at_once(web, api, 8080) is Connected


def test_no_published_port_is_a_way_round_a_policy(cells: CellsUnderTest, place: Place) -> None:
    """Rules that name no address catch what is on its way to the outside, and nothing that comes through the tunnel."""
    web, mallory, api = place(1, WEB), place(3, "evil/shop/mallory"), place(2, API, 8080)
    cells[2].policy_file("shop.yaml", policies(f"from: {WEB}, to: {API}, tcp: 8080, udp: 8080"))
    for cell, target in ((cells[2], str(api.address)), (cells[1], "192.0.2.7"), (cells[3], "192.0.2.7")):
        with published(cell, api):
            if cell is cells[2]:
                assert (connect_at_once(web, target, PUBLISHED), web.udp(target, PUBLISHED)) == (Refused, Refused)
            if cell is cells[1]:
                assert web.get(target, PUBLISHED) == f"hello {web.address}\n"
                assert web.udp(target, PUBLISHED) is Connected
            if cell is not cells[1]:
                assert (connect_at_once(mallory, target, PUBLISHED), mallory.udp(target, PUBLISHED)) == (Refused, Refused)


# addresses that are given again


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_successor_at_an_address_inherits_no_flow(cells: CellsUnderTest, place: Place, who: str) -> None:
    """The one that has gone was silent about it: its socket is still there, where no peer hears it."""
    web, api = place(1, WEB), place(2, API)
    cells.allow(WEB, API, "tcp/9000", "udp/9000", at=3)
    asking, answering = web.datagrams(5000), api.datagrams(9000)
    asking.sendto(b"?", (str(api.address), 9000))
    assert answering.recvfrom(16) == (b"?", (str(web.address), 5000))
    answering.sendto(b"!", (str(web.address), 5000))
    assert asking.recv(16) == b"!"
    client, server = pair(web, api, 9000)
    gone, left = (web, api) if who == "client" else (api, web)
    number = 1 if who == "client" else 2
    gone.cell.client.delete(attachment_address(gone.name))  # its namespace lives on, and its sockets
    new = place(number, OTHER, name="new")
    assert new.address == gone.address
    cells.sync()
    assert is_reset(server if who == "client" else client)
    heard = answering if who == "client" else asking
    port, far = (5000, 9000) if who == "client" else (9000, 5000)
    assert new_one_is_refused(new, left, port, far)
    heard.settimeout(0.1)
    with pytest.raises(TimeoutError):
        heard.recv(16)
    with new.datagrams(port) as eavesdropping:
        with suppress(ConnectionRefusedError):
            heard.sendto(b"secret", (str(new.address), port))
        assert refused_by_both(left, new, heard, port)
        eavesdropping.settimeout(0.1)
        with pytest.raises(TimeoutError):
            eavesdropping.recv(16)


def new_one_is_refused(new: ServingContainer, left: ServingContainer, port: int, far: int) -> bool:
    """A datagram with the ports of the old flow."""
    with new.datagrams(port) as sender:
        return refused(sender, left, far)


def refused_by_both(left: ServingContainer, new: ServingContainer, sender: socket.socket, port: int) -> bool:
    """The same the other way."""
    return refused(sender, new, port)


def refused(sender: socket.socket, target: Node, port: int) -> bool:
    """Whether a socket's datagrams are refused."""
    sender.connect((str(target.address), port))
    return is_refused(sender)
