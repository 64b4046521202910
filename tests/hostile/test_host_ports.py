"""The host itself: its ports on every address that it has, its IPv6, its neighbour table, links that look like ours."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether

from dataplane.tables import container_mac, host_mac
from host.namespace import run_in
from tests.testlib.attacks.attacked_cell import SERVICE, UDP_SERVICE, AttackedCell
from tests.testlib.attacks.attacker import Wire, capture, carrying, has_something, mac_of, withstood
from tests.testlib.mutation import Setting, Without, stopped_by
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused

CLOSED, VXLAN = 9000, 4789
INPUT = Without("filter", "CELLNET-INPUT", "-i cnet+")
RAW6 = Without("raw", "CELLNET-PREROUTING", "-i cnet+", family=6)
IPV6 = Setting("net/ipv6/conf/{mallory}/disable_ipv6", 0)
NO_DAD = Setting("net/ipv6/conf/{mallory}/accept_dad", 0)  # else the address is good a second later
EXTRA = "10.99.0.1", "169.254.0.1"  # on the host's lo, beside the resolver's
EVERY = ("10.77.0.1", *EXTRA, "169.254.0.2")


@pytest.fixture
def services(stage: AttackedCell) -> Iterator[None]:
    """The host listens on all addresses, and has some more of them."""
    for address in EXTRA:
        stage.host.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    for port in (CLOSED, SERVICE):
        stage.host.listen(port)
    yield
    for address in EXTRA:
        stage.host.run("ip", "addr", "del", f"{address}/32", "dev", "lo")


@pytest.mark.parametrize("address", EVERY)
@stopped_by(INPUT)
def test_a_port_of_the_host_is_refused_on_every_address(stage: AttackedCell, services: None, address: str) -> None:
    assert stage.mallory.connect(address, SERVICE) is Connected
    withstood(it=stage.mallory.connect(address, CLOSED) is Refused)


@pytest.mark.parametrize("port", [VXLAN, CLOSED])
@stopped_by(INPUT)
def test_a_datagram_to_the_host_does_not_arrive(stage: AttackedCell, port: int) -> None:
    with closing(stage.host.datagrams(port)) as listening:
        stage.wire.send(IP(src=str(stage.mallory.address), dst=str(stage.host.address)) / UDP(sport=port, dport=port) / b"x")
        stage.wire.send(IP(src=str(stage.mallory.address), dst="255.255.255.255") / UDP(sport=port, dport=port) / b"x")
        stage.settle()
        withstood(it=not has_something(listening))


@stopped_by(INPUT, Setting("net/ipv4/conf/{mallory}/route_localnet", 1))
def test_the_hosts_loopback_is_not_reached_from_a_wire(stage: AttackedCell) -> None:
    with closing(run_in(stage.host.pin, lambda: _bound("127.0.0.1", CLOSED))) as listening:
        stage.wire.send(IP(src=str(stage.mallory.address), dst="127.0.0.1") / UDP(sport=9, dport=CLOSED) / b"x")
        stage.settle()
        withstood(it=not has_something(listening))


@pytest.mark.parametrize("target", ["169.254.0.1", "169.254.0.2", "10.255.1.1", "10.255.1.0"])
def test_a_gateway_has_no_ports(stage: AttackedCell, target: str) -> None:
    """Neither the one on the link nor what looks like one."""
    assert stage.mallory.connect(target, SERVICE) is Refused
    assert stage.mallory.udp(target, UDP_SERVICE) is Refused


@pytest.mark.parametrize("to", ["link-local", "multicast"])
@stopped_by(NO_DAD, IPV6, RAW6)
def test_ipv6_is_closed_also_when_root_inside_turns_it_on(stage: AttackedCell, to: str) -> None:
    """A link-local address is derived from the MAC, which root inside knows."""
    assert stage.web.connect(stage.api, 8080) is Connected
    with closing(run_in(stage.host.pin, lambda: _bound("::", CLOSED, family=socket.AF_INET6))) as listening:
        target, mac = (_link_local(host_mac(stage.mallory.address)), host_mac(stage.mallory.address))
        if to != "link-local":
            target, mac = "ff02::1", "33:33:00:00:00:01"
        frame = Ether(src=container_mac(stage.mallory.address), dst=mac)
        datagram = IPv6(src="fe80::2", dst=target) / UDP(sport=9, dport=CLOSED) / b"x"
        with capture(stage.mallory) as back:
            stage.wire.send(frame / datagram, frame / IPv6(src="fe80::2", dst=target) / ICMPv6EchoRequest())
            stage.settle()
            heard = [each for each in back.pending() if IPv6 in each]
        withstood(it=not has_something(listening) and not heard, what=f"heard {heard}")


@stopped_by(Setting("net/ipv4/conf/all/rp_filter", 0), Setting("net/ipv4/conf/{mallory}/rp_filter", 0))
def test_an_arp_flood_does_not_fill_the_hosts_neighbour_table(stage: AttackedCell) -> None:
    link = stage.mallory.interface
    before = stage.host.run("ip", "neigh", "show", "dev", link)
    asking: dict[str, Any] = {"op": 1, "hwsrc": container_mac(stage.mallory.address), "pdst": str(stage.host.address)}
    broadcast = Ether(src=container_mac(stage.mallory.address), dst="ff:ff:ff:ff:ff:ff")
    for number in range(200):
        stage.wire.send(broadcast / ARP(psrc=f"10.255.{number}.77", **asking))
        stage.wire.send(broadcast / ARP(op=2, hwsrc="02:00:00:00:00:01", psrc="10.77.0.254", pdst="10.77.0.254"))
    stage.settle()
    withstood(it=stage.host.run("ip", "neigh", "show", "dev", link) == before)
    assert stage.web.connect(stage.api, 8080) is Connected


@pytest.mark.parametrize("source", ["10.255.1.200", "web", "mallory"])
@stopped_by(
    Without("raw", "CELLNET-PREROUTING", "rpfilter"),
    Setting("net/ipv4/conf/all/rp_filter", 0),
    Without("filter", "{api_chain}", "CELLNET-REJECT"),
)
def test_a_link_that_only_has_our_kind_of_name_reaches_no_container(stage: AttackedCell, source: str) -> None:
    address = {"web": str(stage.web.address), "mallory": str(stage.mallory.address)}.get(source, source)
    # not 8 hex digits: a look removes links that have exactly our names
    with _foreign_link(stage, "cnetforeign0") as wire, capture(stage.api) as listening:
        wire.send(IP(src=address, dst=str(stage.api.address)) / UDP(sport=9, dport=8080) / b"forged")
        found = listening.packets(until=stage.wire.canary(stage.api))
    withstood(it=not carrying(b"forged", found))


@contextmanager
def _foreign_link(stage: AttackedCell, name: str) -> Iterator[Wire]:
    place = Netns("foreign")
    stage.host.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(place.path))
    stage.host.run("sysctl", "-qw", f"net/ipv4/conf/{name}/rp_filter=0")
    stage.host.run("ip", "link", "set", name, "up")
    place.run("ip", "link", "set", "eth0", "up")
    try:
        far = Node(place.path, address=stage.host.address)
        yield Wire(far, mac="02:00:00:00:00:09", to=mac_of(stage.host, name))
        far.close()
    finally:
        stage.host.run("ip", "link", "del", name, code=None)
        place.close()


def _bound(address: str, port: int, *, family: int = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((address, port))
    return made


def _link_local(mac: str) -> str:
    """The address that the kernel makes of a MAC (EUI-64)."""
    octets = [int(part, 16) for part in mac.split(":")]
    wide = [octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]
    return "fe80::" + ":".join(f"{wide[i] << 8 | wide[i + 1]:x}" for i in range(0, 8, 2))
