"""Packets between containers of two cells: allowed by the source's tag at the destination, refused at once otherwise; and
nothing is taken that only looks like a peer's.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from dataplane.firewall.backends.driver import Firewall
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from host.namespace import run_in
from tests.testlib.connections import is_alive
from tests.testlib.hosts import WORLD, allow, underlay_of
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused, TimedOut, pair
from tests.testlib.patience import eventually
from tests.testlib.two_hosts import OTHER, WEB, TwoHosts, two_hosts, with_egress

FIREWALLS: dict[str, list[Firewall]] = {
    "nft": [NftFirewall(), NftFirewall()],
    "legacy": [LegacyFirewall(), LegacyFirewall()],
    "legacy to nft": [LegacyFirewall(), NftFirewall()],
}
RIGHTS = (allow(WEB, "8080"), allow(WEB, "8080", "udp"))
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
NOBODY = 65534
SEND = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex(sys.argv[2]), ("10.77.0.2", 4789))
"""


@pytest.fixture(params=FIREWALLS)
def cells(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    """With each backend, and two that differ."""
    with two_hosts(netns, firewalls=FIREWALLS[request.param], permit=RIGHTS) as made:
        yield made


@pytest.fixture(params=["nft", "legacy"])
def both(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    """With each backend."""
    with two_hosts(netns, firewalls=FIREWALLS[request.param], permit=RIGHTS) as made:
        yield made


@contextmanager
def echoing(place: Node, port: int) -> Iterator[list[bytes]]:
    """A server there gives every datagram back, and keeps what came."""
    heard: list[bytes] = []
    end = place.datagrams(port)

    def serve() -> None:
        with suppress(OSError):
            while True:
                data, sender = end.recvfrom(65536)
                if data == b"enough":
                    return
                heard.append(data)
                end.sendto(data, sender)

    end.settimeout(None)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield heard
    with run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as own:
        own.sendto(b"enough", (str(place.address), port))
    thread.join()


def test_a_tag_passes_between_cells_and_another_is_refused_at_once(cells: TwoHosts) -> None:
    with cells.api.listen(8080), echoing(cells.api, 8080):
        assert cells.web.connect(cells.api, 8080) is Connected
        assert cells.web.udp(cells.api, 8080) is Connected
        assert cells.other.connect(cells.api, 8080) is Refused
        assert cells.other.udp(cells.api, 8080) is Refused
    with cells.web.listen(8080), cells.api.listen(8081), cells.db.listen(8080):
        assert cells.web.connect(cells.api, 8081) is Refused
        assert cells.web.connect(cells.db, 8080) is Refused
        assert cells.api.connect(cells.web, 8080) is Refused, "a policy has one direction"
    for host in (cells.here, cells.there):
        assert not host.left_to_do(), str(host.left_to_do())


@pytest.mark.parametrize("address", ["10.255.2.99", "10.255.9.9"], ids=["of that cell", "of no cell"])
def test_an_address_without_a_container_is_refused_at_once(both: TwoHosts, address: str) -> None:
    assert both.web.connect(address, 8080) is Refused
    assert both.web.udp(address, 8080) is Refused


def test_a_cell_answers_its_peers_by_refusal_and_reaches_no_container_there(both: TwoHosts) -> None:
    here, there = both.cell(both.here), both.cell(both.there)
    with both.api.listen(8080), there.listen(8080):
        assert here.connect("10.255.2.0", 8080) is Refused
        assert here.connect(both.api, 8080) is Refused
        assert both.web.connect("10.255.2.0", 8080) is Refused
        assert there.connect(both.api, 8080) is Connected, "its own it does reach"


def test_a_mark_that_other_programs_of_a_cell_use_makes_no_app_of_it(both: TwoHosts) -> None:
    here = both.cell(both.here)
    both.here.netns.run("iptables", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-mark", str(WEB))
    with both.api.listen(8080), both.api.datagrams(8080):
        assert here.connect(both.api, 8080) is Refused
        assert here.udp(both.api, 8080) is not Connected
        assert both.web.connect(both.api, 8080) is Connected
        assert both.web.connect("10.255.2.0", 8080) is Refused


def test_long_segments_and_long_datagrams_pass_whole(both: TwoHosts) -> None:
    client, server = pair(both.web, both.api, 8080)
    sent = os.urandom(1 << 20)
    sender = threading.Thread(target=client.sendall, args=(sent,), daemon=True)
    sender.start()
    received = b""
    while len(received) < len(sent):
        received += server.recv(1 << 20)
    sender.join()
    assert received == sent
    with echoing(both.api, 8080), both.web.datagrams() as datagrams:
        assert both.web.udp(both.api, 8080) is Connected
        datagrams.connect((str(both.api.address), 8080))
        datagrams.send(sent[:4000])
        assert datagrams.recv(5000) == sent[:4000]


def test_a_smaller_mtu_at_the_other_end_is_learnt(both: TwoHosts) -> None:
    """The error comes from the other cell itself, which needs an address in the overlay for it to be believed."""
    both.there.turn(replace(both.there.state, mtu=1300))
    with echoing(both.api, 8080), both.web.datagrams() as datagrams:
        datagrams.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        datagrams.connect((str(both.api.address), 8080))

        def learnt() -> bool:
            with suppress(OSError):  # too long, as soon as it is known
                datagrams.send(bytes(1400))
            return datagrams.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1300

        eventually(learnt)
        with suppress(OSError):  # the last of those errors
            datagrams.send(bytes(1272))
        datagrams.send(bytes(1272))
        assert datagrams.recv(1500) == bytes(1272)


def test_what_the_host_redirects_takes_nothing_that_comes_through_the_tunnel(both: TwoHosts) -> None:
    tool = "iptables-legacy" if isinstance(both.there.kernel._firewall, LegacyFirewall) else "iptables-nft"
    to = ("-d", "10.255.2.200", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to", f"{both.api.address}:8080")
    both.there.netns.run(tool, "-t", "nat", "-A", "PREROUTING", *to)
    with both.api.listen(8080):
        assert both.web.connect("10.255.2.200", 80) is Refused
        assert both.web.connect(both.api, 8080) is Connected


def test_with_egress_allowed_a_peers_underlay_address_is_refused_and_others_are_not(both: TwoHosts) -> None:
    both.here.turn(with_egress(both.here))
    world, there = both.world(), both.cell(both.there)
    with world.listen(9000), there.listen(9000), echoing(world, 9000):
        assert both.web.connect(world, 9000) is Connected
        assert both.web.udp(world, 9000) is Connected
        assert both.web.connect(there, 9000) is Refused
        assert both.web.udp(there, 9000) is Refused
        assert both.web.udp(world, 4789) is Refused, "whose address that is may change"


def test_what_is_sent_from_the_tunnels_port_gets_answers(both: TwoHosts) -> None:
    both.here.turn(with_egress(both.here))
    with echoing(world := both.world(), 5000), both.web.datagrams(4789) as datagrams:
        assert both.web.udp(world, 5000) is Connected
        datagrams.connect((str(world.address), 5000))
        datagrams.send(b"hello")
        assert datagrams.recv(9) == b"hello"


# which hosts are taken for a peer


def tunnelled(cells: TwoHosts, payload: bytes) -> bytes:
    """A datagram from web to api with web's tag, as web's cell would wrap it."""
    inside = IP(src=str(cells.web.address), dst=str(cells.api.address)) / UDP(sport=5000, dport=8080) / payload
    frame = Ether(src="02:c2:0a:ff:01:00", dst="02:c2:0a:ff:02:00") / inside
    return bytes(VXLAN(flags=0x88, gpid=WEB, vni=1) / frame)


def test_only_a_peers_packets_are_taken_and_only_on_the_underlay(both: TwoHosts, netns: Callable[[str], Netns]) -> None:
    """From the peer's kernel the same packet arrives: what is dropped elsewhere is not dropped for its form."""
    there = both.there.netns
    there.run("ip", "addr", "add", "10.77.0.22/24", "dev", "u0")
    stranger = netns("stranger")
    there.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "e0", "netns", stranger.name)
    there.run("sh", "-ec", "ip addr add 192.0.2.1/24 dev v0; ip link set v0 up; sysctl -qw net.ipv4.conf.v0.rp_filter=0")
    stranger.run("sh", "-ec", "ip addr add 192.0.2.2/24 dev e0; ip addr add 10.77.0.1/32 dev e0; ip link set e0 up; "
                 "ip route add default via 192.0.2.1")  # fmt: skip
    peer, outsider = both.cell(both.here), Node(stranger.path, address=IPv4Address("192.0.2.2"))
    there.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")

    with echoing(both.api, 8080) as heard:
        for place, source, to in (
            (both.world(), "10.77.0.254", underlay_of(2)),  # of another address
            (outsider, "10.77.0.1", underlay_of(2)),  # on another interface
            (peer, "10.77.0.1", IPv4Address("10.77.0.22")),  # to another address of the cell
            (both.api, str(both.api.address), underlay_of(2)),  # a container's
            (peer, "10.77.0.1", underlay_of(2)),
        ):
            payload = f"{place.address} {source} {to}".encode()
            with run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
                sender.bind((source, 0))
                sender.sendto(tunnelled(both, payload), (str(to), 4789))
        eventually(lambda: bool(heard))
        assert heard == [payload]
    outsider.close()


def test_users_of_a_cell_and_other_engines_guests_cannot_pass_for_it(both: TwoHosts, netns: Callable[[str], Netns]) -> None:
    here, guest = both.here.netns, netns("guest")
    here.run("sh", "-ec", f"ip link add g0 type veth peer name e0 netns {guest.name}; ip link set g0 up; "
             "ip addr add 192.0.2.1/24 dev g0")  # fmt: skip
    guest.run("sh", "-ec", "ip addr add 192.0.2.2/24 dev e0; ip link set e0 up; ip route add default via 192.0.2.1")
    legacy = isinstance(both.here.kernel._firewall, LegacyFirewall)
    here.run("iptables-legacy" if legacy else "iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.0/24",
             "-j", "MASQUERADE")  # fmt: skip
    both.here.turn(with_egress(both.here))
    with echoing(both.api, 8080) as heard:
        for pin, user in ((here.path, NOBODY), (guest.path, 0), (both.other.pin, 0), (here.path, 0)):
            payload = f"{pin.name} {user}".encode()
            argv = ["nsenter", f"--net={pin}", "python3", "-c", SEND, str(user), tunnelled(both, payload).hex()]
            done = subprocess.run(argv, stderr=subprocess.PIPE, check=False)
            assert not done.returncode or b"not permitted" in done.stderr, done.stderr
        eventually(lambda: bool(heard))
        assert heard == [payload]


def test_a_cell_is_no_router_for_the_overlay(both: TwoHosts) -> None:
    """Neither from its own network into the overlay, nor out of it."""
    outside = Node(both.there.netns.path, address=underlay_of(2))
    both.there.netns.run("ip", "route", "del", "10.255.1.0/24")
    both.there.netns.run("ip", "route", "add", "10.255.1.0/24", "via", "10.77.0.1")
    with both.web.listen(8080):
        assert outside.connect(both.web, 8080) is Refused
    both.there.become(both.there.state)
    both.here.netns.run("ip", "route", "add", f"{WORLD}/32", "via", "10.255.2.0", "dev", "cellnet0", "onlink")
    with both.world().listen(9000):
        # refused, too, but by an address of which no peer may speak
        assert both.web.connect(WORLD, 9000) is TimedOut
    outside.close()


def test_connections_live_through_changes_of_mtu_peers_and_rights(both: TwoHosts) -> None:
    ends = pair(both.web, both.api, 8080)
    both.there.turn(replace(both.reached(*RIGHTS, allow(OTHER, "8080")), mtu=1400))
    both.here.turn(replace(both.here.state, mtu=1400))
    more = {**both.here.state.peers, both.here.empty.subnet.supernet(new_prefix=17): underlay_of(9)}
    both.here.turn(replace(both.here.state, peers={key: value for key, value in more.items() if key.prefixlen == 24}))
    assert is_alive(*ends)
    with both.api.listen(8080):
        assert both.other.connect(both.api, 8080) is Connected


def test_a_published_port_that_a_peer_has_called_from_the_tunnels_port_cannot_pass_for_its_cell(both: TwoHosts) -> None:
    """The peer's own guest can have called, behind its address. The answer is of a flow that is allowed."""
    here = both.here.netns
    both.here.become(replace(both.here.state, ingress_allowed=True))
    legacy = isinstance(both.here.kernel._firewall, LegacyFirewall)
    here.run("iptables-legacy" if legacy else "iptables-nft", "-t", "nat", "-A", "PREROUTING", "-d", "10.77.0.1", "-p", "udp",
             "--dport", "5353", "-j", "DNAT", "--to", f"{both.web.address}:5353")  # fmt: skip

    def call(port: int, words: bytes) -> None:
        with run_in(both.there.netns.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)) as raw:
            raw.sendto(bytes(UDP(sport=port, dport=5353, len=8 + len(words), chksum=0)) + words, ("10.77.0.1", 0))

    with echoing(both.api, 8080) as heard, echoing(both.web, 5353) as called:
        call(4789, tunnelled(both, b"forged"))
        eventually(lambda: len(called) == 1)
        assert both.web.udp(both.api, 8080) is Connected
        assert b"forged" not in heard
