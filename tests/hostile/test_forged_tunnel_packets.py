"""Tunnelled packets from senders that are no cell: containers, other hosts, users of a cell, other engines' guests.

Each would deliver a datagram with the address and the tag of a rightful caller, if it were taken.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network

import pytest
from scapy.layers.inet import IP, UDP

from dataplane.firewall.bpf import part_mark
from tests.testlib.attacks.attacked_hosts import API, VXLAN_PORT, AttackedHosts, send_to_tunnel
from tests.testlib.attacks.attacker import Wire, mac_of, withstood
from tests.testlib.mutation import At, Kernel, Member, With, Without, stopped_by
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node

OUTER = Without("filter", "CELLNET-INPUT", "--dport 4789 -j DROP")
ALSO = "10.99.0.1"  # one more address of a cell
AS_CELL_1 = f"skbmark {int(part_mark(IPv4Network('10.255.1.0/24'))):#x}"
OWN = ("10.77.0.1", "10.255.1.0", ALSO)
BECOME = """
import ctypes, os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
if sys.argv.pop(1) == "mapped" and ctypes.CDLL(None).unshare(0x10000000):  # CLONE_NEWUSER
    sys.exit("no user namespace")
"""
SEND = """
to, *payloads = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
    for each in payloads:
        try:
            made.sendto(bytes.fromhex(each), (to, 4789))
        except PermissionError:
            print("not permitted")
"""
TAKE = """
for kind, protocol in ((socket.SOCK_RAW, socket.IPPROTO_UDP), (socket.SOCK_RAW, socket.IPPROTO_RAW)):
    try:
        socket.socket(socket.AF_INET, kind, protocol)
        sys.exit("a raw socket")
    except PermissionError:
        pass
for address in ("", "127.0.0.1", "10.77.0.1", "10.255.1.0", "10.77.255.255"):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((address, 4789))
        sys.exit(f"the port at {address}")
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def module_cells(module_cells: AttackedHosts) -> AttackedHosts:
    module_cells.cell(1).run("ip", "addr", "add", f"{ALSO}/32", "dev", "lo")
    return module_cells


@pytest.fixture(params=["egress denied", "egress allowed"])
def egress(request: pytest.FixtureRequest, module_cells: AttackedHosts) -> Iterator[None]:
    """Whether the first cell's containers may leave the overlay."""
    host = module_cells.hosts[0]
    before = host.state
    if request.param == "egress allowed":
        host.turn(replace(before, egress_allowed=True))
    yield
    if request.param == "egress allowed":
        host.turn(before)


def for_api(cells: AttackedHosts) -> list[bytes]:
    """From web to api, short and too long for one packet."""
    return [cells.tunnelled(cells.datagram("web", "api", b"forged" * count)) for count in (1, 300)]


def for_web(cells: AttackedHosts) -> list[bytes]:
    """From api to web."""
    return [cells.tunnelled(cells.datagram("api", "web", b"forged"), tag=API, origin=2, to=1)]


# containers


@pytest.mark.parametrize("to", OWN)
@stopped_by(OUTER, Without("filter", "CELLNET-INPUT", "-i cnet+"))
def test_a_container_is_no_peer_to_its_own_cell(cells: AttackedHosts, to: str) -> None:
    withstood(it=not cells.arrived(partial(send_to_tunnel, cells["mallory"], for_web(cells), to=to), at="web"))


@pytest.mark.parametrize("to", ["169.254.0.1", "255.255.255.255", "10.77.0.255", "224.0.0.1"])
def test_a_container_is_no_peer_by_an_unused_address(cells: AttackedHosts, egress: None, to: str) -> None:
    withstood(it=not cells.arrived(partial(send_to_tunnel, cells["mallory"], for_web(cells), to=to), at="web"))


@pytest.mark.parametrize("port", [0, VXLAN_PORT, 40_000])
@stopped_by(
    Without("filter", "CELLNET-FORWARD", "--dport 4789"),
    Without("filter", "CELLNET-NEW", "-g CELLNET-EGRESS"),
    Without("filter", "CELLNET-NEW", "-j CELLNET-REJECT"),
    With("nat", "POSTROUTING", "-s 10.255.1.0/24 -j MASQUERADE"),
)
def test_a_container_is_no_peer_to_its_cells_peers(cells: AttackedHosts, egress: None, port: int) -> None:
    """Masqueraded, it would have its cell's address."""
    attack = partial(send_to_tunnel, cells["mallory"], for_api(cells), to="10.77.0.2", port=port)
    withstood(it=not cells.arrived(attack, at="api"))


@pytest.mark.parametrize("to", ["10.255.2.0", "10.255.3.0"])
@stopped_by(
    *(At(f"cell {cell}", each) for cell in (2, 3) for each in (OUTER, Without("filter", "CELLNET-INPUT", "-i cellnet0")))
)
def test_a_container_is_no_peer_through_the_tunnel_itself(cells: AttackedHosts, to: str) -> None:
    if to == cells.end_of(2):
        payload, victim = cells.tunnelled(cells.datagram("web", "api")), "api"
    else:
        payload, victim = cells.tunnelled(cells.datagram("web", "far", port=7000), to=3), "far"
    withstood(it=not cells.arrived(partial(send_to_tunnel, cells["mallory"], [payload], to=to), at=victim))


@stopped_by(Kernel("unwraps what is for the host, and this is for a container"))
def test_what_a_policy_lets_to_that_port_of_a_container_stays_data(cells: AttackedHosts) -> None:
    wrapped = cells.tunnelled(cells.datagram("web", "eve", port=7000))
    with cells["api"].datagrams(VXLAN_PORT) as server:
        attack = partial(send_to_tunnel, cells["mallory"], [wrapped], to=str(cells["api"].address))
        withstood(it=not cells.arrived(attack, at="eve"))
        assert server.recv(2000) == wrapped


# other hosts


@pytest.mark.parametrize("to", ["10.77.0.2", "10.255.2.0"])
@stopped_by(At("cell 2", Member("cellnet-vteps", f"10.77.0.254 {AS_CELL_1}")), At("cell 2", OUTER))
def test_a_host_that_is_no_peer_is_not_taken_for_one(cells: AttackedHosts, to: str) -> None:
    cells.outside.run("ip", "route", "replace", "10.255.0.0/16", "via", "10.77.0.2")

    def attack() -> None:
        send_to_tunnel(cells.outside, for_api(cells), to=to)
        cells.dealt_with(at=2)

    withstood(it=not cells.arrived(attack, at="api"))


@pytest.fixture
def stranger(module_cells: AttackedHosts) -> Iterator[Node]:
    """On another interface of the second cell, with the first one's address."""
    place = Netns("stranger")
    cell = module_cells.cell(2)
    cell.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "e0", "netns", place.name)
    cell.run("sh", "-ec", "ip addr add 192.0.2.1/24 dev v0; ip link set v0 up; sysctl -qw net.ipv4.conf.v0.rp_filter=0")
    cell.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
    place.run("sh", "-ec", "ip addr add 192.0.2.2/24 dev e0; ip addr add 10.77.0.1/32 dev e0; ip link set e0 up; "
              "ip route add default via 192.0.2.1")  # fmt: skip
    yield Node(place.path, address=module_cells.cell(1).address)
    cell.run("ip", "link", "del", "v0")
    place.close()


@stopped_by(At("cell 2", OUTER))
def test_a_peers_address_on_another_interface_is_not_taken(cells: AttackedHosts, stranger: Node) -> None:
    def attack() -> None:
        with cells.cell(2).datagrams(9002) as service:
            send_to_tunnel(stranger, for_api(cells), to="10.77.0.2", source="10.77.0.1")
            with stranger.datagrams() as own:
                own.sendto(b"after", ("192.0.2.1", 9002))
            assert service.recv(10) == b"after"

    withstood(it=not cells.arrived(attack, at="api"))


def test_a_host_on_the_segment_that_uses_a_peers_address_is_not_stopped(cells: AttackedHosts) -> None:
    """What no rule can distinguish, as docs/security.md says."""
    wire = Wire(cells.outside, "s", mac=mac_of(cells.outside, "s"), to=mac_of(cells.cell(2), "u0"))
    outer = IP(src="10.77.0.1", dst="10.77.0.2") / UDP(sport=5, dport=VXLAN_PORT)
    assert cells.arrived(partial(wire.send, outer / for_api(cells)[0]), at="api")


# users of a cell, and guests of another engine there


def as_nobody(cells: AttackedHosts, script: str, *words: str, mapped: bool = False) -> str:
    """Run in the first cell without rights, or with all of them in a user namespace of one's own."""
    argv = (sys.executable, "-IS", "-c", BECOME + script, "mapped" if mapped else "plain", *words)
    return cells.cell(1).run(*argv)


def sends(cells: AttackedHosts, payloads: Sequence[bytes], *, to: str, mapped: bool = False) -> Callable[[], object]:
    return partial(as_nobody, cells, SEND, to, *(each.hex() for each in payloads), mapped=mapped)


@pytest.mark.parametrize("mapped", [False, True], ids=["a user", "root of a user namespace"])
@stopped_by(Without("filter", "CELLNET-OUTPUT", "--uid-owner"))
def test_a_user_of_a_cell_is_no_peer_to_another(cells: AttackedHosts, mapped: bool) -> None:
    withstood(it=not cells.arrived(sends(cells, for_api(cells), to="10.77.0.2", mapped=mapped), at="api"))


@pytest.mark.parametrize("to", [*OWN, "127.0.0.1"])
@stopped_by(Without("filter", "CELLNET-OUTPUT", "--uid-owner"), OUTER)
def test_a_user_of_a_cell_is_no_peer_to_it(cells: AttackedHosts, to: str) -> None:
    withstood(it=not cells.arrived(sends(cells, for_web(cells), to=to), at="web"))


@pytest.mark.parametrize("mapped", [False, True], ids=["a user", "root of a user namespace"])
@stopped_by(Kernel("gives raw sockets to root alone, and a port that is taken to no other program"))
def test_a_user_of_a_cell_gets_neither_raw_packets_nor_the_tunnels_port(cells: AttackedHosts, mapped: bool) -> None:
    withstood(it=not (got := as_nobody(cells, TAKE, mapped=mapped)), what=got)


@pytest.fixture(params=["masqueraded", "routed"])
def guest(module_cells: AttackedHosts, request: pytest.FixtureRequest) -> Iterator[Node]:
    """A container of another engine on the first cell, behind its bridge."""
    cell, place = module_cells.cell(1), Netns("guest")
    for argv in (
        "link add guests type bridge",
        "addr add 192.0.2.1/24 dev guests",
        "link set guests up",
        f"link add g0 type veth peer name e0 netns {place.name}",
        "link set g0 master guests up",
    ):
        cell.run("ip", *argv.split())
    place.run("sh", "-ec", "ip addr add 192.0.2.2/24 dev e0; ip link set e0 up; ip route add default via 192.0.2.1")
    masquerade = ("POSTROUTING", "-s", "192.0.2.0/24", "!", "-o", "guests", "-j", "MASQUERADE")
    if request.param == "masqueraded":
        module_cells.ground.iptables("-t", "nat", "-A", *masquerade)
    else:
        module_cells.cell(2).run("ip", "route", "add", "192.0.2.0/24", "via", "10.77.0.1")
    made = Node(place.path, address=cell.address)
    assert made.connect("10.77.0.1", 9) is not Connected  # the way is there: the peer answers
    yield made
    if request.param == "masqueraded":
        module_cells.ground.iptables("-t", "nat", "-D", *masquerade)
    else:
        module_cells.cell(2).run("ip", "route", "del", "192.0.2.0/24")
    for link in ("g0", "guests"):
        cell.run("ip", "link", "del", link)
    place.close()


@stopped_by(
    Without("filter", "CELLNET-FORWARD", "--dport 4789"), At("cell 2", Member("cellnet-vteps", f"192.0.2.2 {AS_CELL_1}"))
)
def test_a_guest_of_another_engine_is_no_peer_to_another_cell(cells: AttackedHosts, guest: Node) -> None:
    withstood(it=not cells.arrived(partial(send_to_tunnel, guest, for_api(cells), to="10.77.0.2"), at="api"))


@pytest.mark.parametrize("to", OWN)
@stopped_by(OUTER)
def test_a_guest_of_another_engine_is_no_peer_to_its_cell(cells: AttackedHosts, guest: Node, to: str) -> None:
    withstood(it=not cells.arrived(partial(send_to_tunnel, guest, for_web(cells), to=to), at="web"))


# root of a cell that is a peer


def test_root_of_a_peer_is_taken_for_it(cells: AttackedHosts) -> None:
    """By which all of the above would be delivered."""
    assert cells.arrived(partial(cells.as_root, for_api(cells)), at="api")
    assert cells.arrived(partial(cells.as_root, for_web(cells), of=2, at=1), at="web", origin=2)
