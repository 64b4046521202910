"""Root of a cell can send anything through the tunnel: what the other cells still do not take from it."""

import socket
import struct
from contextlib import closing
from functools import partial
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from host.namespace import run_in
from tests.testlib.attacks.attacked_hosts import API, UDP_SERVICE, WEB, AttackedHosts
from tests.testlib.attacks.attacker import has_something, withstood
from tests.testlib.dns.client import PORT, RESOLVER
from tests.testlib.mutation import At, Kernel, Setting, With, Without, stopped_by

ORIGIN = At("cell 2", Without("mangle", "CELLNET-PEERS", "-m bpf"))
PATH = (
    ORIGIN,
    At("cell 2", Without("raw", "CELLNET-PREROUTING", "rpfilter")),
    At("cell 2", Setting("net/ipv4/conf/cellnet0/rp_filter", 0)),
    At("cell 2", Setting("net/ipv4/conf/all/rp_filter", 0)),
)
LOCAL = At("cell 2", Setting("net/ipv4/conf/cellnet0/accept_local", 1))
TO_HOST = At("cell 2", Without("filter", "CELLNET-INPUT", "-i cellnet0"))
DENIED = At("cell 2", Without("filter", "{api_chain}", "CELLNET-REJECT"))
OWN_MAC, PEERS_MAC = "02:c2:0a:ff:02:00", "02:c2:0a:ff:01:00"
NETWORKS = ("255.255.255.255", "224.0.0.1", "224.0.0.251", "239.1.2.3")


def delivered(cells: AttackedHosts, packet: Packet, *, tag: int = WEB, **header: int) -> bool:
    """Whether the first cell's root gets it to api."""
    wrapped = cells.tunnelled(packet, tag=tag, **header)
    return cells.arrived(partial(cells.as_root, [wrapped]), at="api")


def test_for_its_own_containers_addresses_a_cell_can_use_any_tag(cells: AttackedHosts) -> None:
    """What a taken-over cell can do, as docs/security.md says."""
    assert delivered(cells, cells.datagram("mallory", "api"), tag=WEB)
    assert delivered(cells, cells.datagram("10.255.1.99", "api"), tag=WEB)


@pytest.mark.parametrize("source", ["eve", "api", "10.255.2.99"])
@stopped_by(*PATH)
def test_a_peer_has_no_address_of_the_cell_that_it_sends_to(cells: AttackedHosts, source: str) -> None:
    withstood(it=not delivered(cells, cells.datagram(source, "api")))


@pytest.mark.parametrize("source", ["10.255.2.0", "10.77.0.2"])
@stopped_by(*PATH, LOCAL)
def test_a_peer_is_not_the_cell_that_it_sends_to(cells: AttackedHosts, source: str) -> None:
    withstood(it=not delivered(cells, cells.datagram(source, "api")))


@pytest.mark.parametrize("source", ["10.77.0.1", "10.77.0.254", "8.8.8.8", "169.254.0.1", "10.255.9.9", "240.0.0.1"])
@stopped_by(*PATH)
def test_a_peer_has_no_address_of_elsewhere(cells: AttackedHosts, source: str) -> None:
    withstood(it=not delivered(cells, cells.datagram(source, "api")))


@pytest.mark.parametrize("source", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"])
@stopped_by(*PATH, Kernel("drops martian sources by itself"))
def test_what_cannot_be_a_source_is_none_in_the_tunnel(cells: AttackedHosts, source: str) -> None:
    withstood(it=not delivered(cells, cells.datagram(source, "api")))


@stopped_by(*PATH)
def test_a_peer_does_not_answer_within_another_cell(cells: AttackedHosts) -> None:
    with closing(cells["api"].datagrams(7000)) as server, closing(cells["eve"].datagrams()) as client:
        client.connect((str(cells["api"].address), 7000))
        client.send(b"own words")
        server.connect(server.recvfrom(100)[1])
        forged = IP(src=str(cells["api"].address), dst=str(cells["eve"].address))
        forged /= UDP(sport=7000, dport=client.getsockname()[1]) / b"forged"
        wrapped = cells.tunnelled(forged, tag=API)
        withstood(it=not cells.arrived(partial(cells.as_root, [wrapped]), at="eve"))


# for the cell itself


@pytest.mark.parametrize("to", ["10.77.0.2", "10.255.2.0"])
@stopped_by(TO_HOST)
def test_a_peer_reaches_no_service_of_a_cell_through_the_tunnel(cells: AttackedHosts, to: str) -> None:
    with cells.cell(2).datagrams(9000) as closed, cells.cell(2).datagrams(UDP_SERVICE) as opened:
        for port in (9000, UDP_SERVICE):
            assert not delivered(cells, cells.datagram("web", to, port=port))
        for each in (closed, opened):
            withstood(it=not has_something(each))


@stopped_by(TO_HOST, At("cell 2", Without("filter", "CELLNET-INPUT", "-d 169.254.0.2/32")))
def test_a_peer_asks_another_cells_resolver_for_nothing(cells: AttackedHosts) -> None:
    with run_in(cells.cell(2).pin, partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)) as resolver:
        resolver.bind((str(RESOLVER), PORT))
        resolver.setblocking(False)
        assert not delivered(cells, cells.datagram("web", str(RESOLVER), port=PORT))
        withstood(it=not has_something(resolver))


@pytest.mark.parametrize("to", NETWORKS)
@stopped_by(TO_HOST)
def test_broadcast_in_the_tunnel_reaches_no_container(cells: AttackedHosts, to: str) -> None:
    with cells.cell(2).datagrams(9000) as listening:
        mac = "ff:ff:ff:ff:ff:ff" if to.startswith("255") else "01:00:5e:00:00:01"
        if not to.startswith("255"):
            _join(listening, to, run_in(cells.cell(2).pin, lambda: socket.if_nametoindex("cellnet0")))
        for each in (mac, OWN_MAC):
            assert not delivered(cells, Ether(src=PEERS_MAC, dst=each) / cells.datagram("web", to, port=9000))
        withstood(it=not has_something(listening))


@stopped_by(ORIGIN, At("cell 2", Setting("net/ipv6/conf/cellnet0/disable_ipv6", 0)))
def test_there_is_no_ipv6_in_the_tunnel(cells: AttackedHosts) -> None:
    cell = cells.cell(2)
    with closing(_ipv6(cells)) as listening:
        for to in ("ff02::1", "fe80::c2:aff:feff:200"):
            mac = "33:33:00:00:00:01" if to.startswith("ff") else OWN_MAC
            inner = Ether(src=PEERS_MAC, dst=mac) / IPv6(src="fe80::1", dst=to)
            assert not delivered(cells, inner / UDP(sport=9, dport=9000) / b"forged")
            assert not delivered(cells, inner / ICMPv6EchoRequest())
        withstood(it=not has_something(listening), what=cell.run("ip", "-6", "addr"))


def test_arp_in_the_tunnel_changes_no_neighbour(cells: AttackedHosts) -> None:
    before = _neighbours(cells)
    for claimed in ("10.255.1.0", "10.255.3.0", "10.255.2.2", "10.77.0.254", "10.77.0.3"):
        for kind in (1, 2):
            asked = "10.77.0.2" if kind == 1 else claimed
            lie = ARP(op=kind, hwsrc="02:00:00:00:00:09", psrc=claimed, hwdst=OWN_MAC, pdst=asked)
            for mac in ("ff:ff:ff:ff:ff:ff", OWN_MAC):
                assert not delivered(cells, Ether(src="02:00:00:00:00:09", dst=mac) / lie)
    after = _neighbours(cells)
    assert {each for each in after if "PERMANENT" in each} == {each for each in before if "PERMANENT" in each}
    assert not [each for each in after if "02:00:00:00:00:09" in each and "dev u0" in each]


# odd wrappings


@pytest.mark.parametrize("mac", ["02:c0:0a:ff:02:02", "02:00:00:00:00:09", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"])
@stopped_by(Kernel("forwards what is addressed to its own MAC only"))
def test_a_frame_for_another_mac_is_not_delivered(cells: AttackedHosts, mac: str) -> None:
    withstood(it=not delivered(cells, Ether(src=PEERS_MAC, dst=mac) / cells.datagram("web", "api")))


@stopped_by(Kernel("has no device for that VLAN"))
def test_a_frame_of_a_vlan_is_not_delivered(cells: AttackedHosts) -> None:
    tagged = Ether(src=PEERS_MAC, dst=OWN_MAC) / Dot1Q(vlan=7) / cells.datagram("web", "api")
    withstood(it=not delivered(cells, tagged))


@stopped_by(DENIED)
def test_without_a_tag_nothing_is_allowed(cells: AttackedHosts) -> None:
    for tag, flags in ((WEB, 0x08), (0, 0x88), (0, 0x08)):
        withstood(it=not delivered(cells, cells.datagram("web", "api"), tag=tag, flags=flags))


@pytest.mark.parametrize(
    "header",
    [{"flags": 0x80}, {"flags": 0x8C}, {"flags": 0xA8}, {"flags": 0x89}, {"vni": 2}, {"vni": 0}, {"reserved": 1}],
    ids=str,
)
@stopped_by(Kernel("drops tunnelled packets of another number, or with flags that it does not know"))
def test_a_header_that_is_not_ours_is_refused(cells: AttackedHosts, header: dict[str, int]) -> None:
    withstood(it=not delivered(cells, cells.datagram("web", "api"), **header))


# a third cell's


@pytest.mark.parametrize("source", ["near", "10.255.3.99", "10.255.3.0"])
@stopped_by(ORIGIN)
def test_a_peer_has_no_address_of_a_third_cell(cells: AttackedHosts, source: str) -> None:
    """All peers come out of one tunnel."""
    withstood(it=not delivered(cells, cells.datagram(source, "api")))


@stopped_by(ORIGIN)
def test_a_peer_does_not_answer_for_a_third_cell(cells: AttackedHosts) -> None:
    with closing(cells["api"].datagrams()) as client, closing(cells["near"].datagrams(7000)) as server:
        client.connect((str(cells["near"].address), 7000))
        client.send(b"own words")
        server.connect(server.recvfrom(100)[1])
        forged = cells.datagram("near", "api")
        forged[UDP].sport, forged[UDP].dport = 7000, client.getsockname()[1]
        withstood(it=not delivered(cells, forged))
        server.send(b"own words")
        assert client.recv(100) == b"own words"


@stopped_by(At("cell 2", With("mangle", "CELLNET-PEERS", "-j RETURN")))
def test_no_mark_of_an_outer_packet_becomes_a_tag(cells: AttackedHosts) -> None:
    """The kernel leaves it on what comes without a tag."""
    marking = ("-t", "mangle", "-A", "PREROUTING", "-i", "u0", "-j", "MARK", "--set-mark", str(WEB))
    cells.cell(2).run(f"iptables-{cells.ground.backend}", *marking)
    cells.extra.append(lambda: cells.cell(2).run(f"iptables-{cells.ground.backend}", "-t", "mangle", "-F", "PREROUTING"))
    withstood(it=not delivered(cells, cells.datagram("mallory", "api"), tag=0, flags=0x08))


def _join(listening: socket.socket, group: str, index: int) -> None:
    asked = IPv4Address(group).packed + bytes(4) + struct.pack("=i", index)
    listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, asked)


def _neighbours(cells: AttackedHosts) -> set[str]:
    return {line.strip() for line in cells.cell(2).run("ip", "-4", "neigh").splitlines()}


def _ipv6(cells: AttackedHosts) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind(("::", 9000))
        return made

    return run_in(cells.cell(2).pin, make)
