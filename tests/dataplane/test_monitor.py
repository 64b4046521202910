"""Foreign changes are heard, silence is silence."""

import socket
import time
from collections.abc import Callable

import pytest

from dataplane.netlink.monitor import Monitor
from host.namespace import run_in
from tests.testlib.netns import Netns


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Netns:
    made = netns("host")
    for argv in ("link add u0 type bridge", "addr add 192.0.2.1/24 dev u0", "link set u0 up"):
        made.run("ip", *argv.split())
    return made


@pytest.mark.parametrize(
    "change",
    [
        "ip link set u0 down",
        "ip link add u1 type bridge",
        "ip addr add 192.0.2.9/24 dev u0",
        "ip route add 198.51.100.0/24 dev u0",
        "ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:01 dev u0 nud permanent",
        "sysctl -qw net.ipv4.conf.u0.rp_filter=1",
        "tc qdisc add dev u0 root tbf rate 1mbit burst 10k limit 10k",
        "iptables-nft -A INPUT -j ACCEPT",
        "iptables-nft -F FORWARD",
    ],
)
def test_a_foreign_change_is_one_event(host: Netns, change: str) -> None:
    host.run("iptables-nft", "-A", "FORWARD", "-j", "ACCEPT")
    monitor = run_in(host.path, Monitor)
    assert not monitor.drain()
    host.run(*change.split())
    assert monitor.drain()
    assert not monitor.drain()
    monitor.close()


def test_what_does_not_matter_is_no_event(host: Netns) -> None:
    monitor = run_in(host.path, Monitor)
    host.run("ip", "neigh", "add", "192.0.2.7", "lladdr", "02:00:00:00:00:01", "dev", "u0", "nud", "reachable")
    host.run("ip", "link", "show")
    host.run("iptables-nft-save")
    assert not monitor.drain()
    monitor.close()


def test_a_link_whose_carrier_comes_and_goes_is_no_event_but_a_foreign_setting_is(
    host: Netns, netns: Callable[[str], Netns]
) -> None:
    container = netns("c")
    monitor = run_in(host.path, Monitor)
    host.run("ip", "link", "add", "cnet0aff0102", "type", "veth", "peer", "name", "eth0", "netns", str(container.path))
    host.run("ip", "link", "set", "cnet0aff0102", "up")
    assert monitor.drain()
    for _ in range(3):
        container.run("ip", "link", "set", "eth0", "up")
        await_carrier(host, "LOWER_UP")
        container.run("ip", "link", "set", "eth0", "down")
        await_carrier(host, "NO-CARRIER")
    assert not monitor.drain()
    for change in ("mtu 1400", "address 02:00:00:00:00:02", "down", "up", "name other"):
        host.run("ip", "link", "set", "cnet0aff0102", *change.split())
        assert monitor.drain(), change
    host.run("ip", "link", "del", "other")
    assert monitor.drain()
    monitor.close()


TUNNEL = "link add cellnet0 type vxlan id 1 dstport 4789 local 192.0.2.1 gbp nolearning"
PEERS_MAC = "02:c2:0a:ff:02:00"


@pytest.mark.parametrize(
    "change",
    [
        "ip link del cellnet0",
        "ip link set cellnet0 mtu 1300",
        "ip link set cellnet0 type vxlan learning",
        "ip addr add 10.255.1.9/32 dev cellnet0",
        f"bridge fdb del {PEERS_MAC} dev cellnet0",
        f"bridge fdb replace {PEERS_MAC} dev cellnet0 dst 192.0.2.9",
        "bridge fdb append 00:00:00:00:00:00 dev cellnet0 dst 192.0.2.9",
        "ip neigh replace 10.255.2.0 dev cellnet0 lladdr 02:00:00:00:00:01 nud permanent",
        "ip route del 10.255.2.0/24",
    ],
)
def test_a_foreign_change_of_the_tunnel_is_an_event_and_what_passes_through_it_is_not(host: Netns, change: str) -> None:
    for argv in (TUNNEL, "addr add 10.255.1.0/32 dev cellnet0", "link set cellnet0 up",
                 f"neigh add 10.255.2.0 lladdr {PEERS_MAC} dev cellnet0 nud permanent",
                 "route add 10.255.2.0/24 via 10.255.2.0 dev cellnet0 onlink"):  # fmt: skip
        host.run("ip", *argv.split())
    host.run("bridge", "fdb", "add", PEERS_MAC, "dev", "cellnet0", "dst", "192.0.2.2", "permanent")
    host.run("ip", "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:07", "dev", "u0", "nud", "permanent")
    monitor = run_in(host.path, Monitor)
    host.run("ip", "link", "set", "cellnet0", "alias", "none")  # from now on it is known what it is like
    monitor.drain()
    with run_in(host.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        for _ in range(3):
            sender.sendto(b"?", ("10.255.2.9", 5000))
    assert not monitor.drain()
    host.run(*change.split())
    assert monitor.drain()
    assert not monitor.drain()
    monitor.close()


def await_carrier(host: Netns, word: str) -> None:
    until = time.monotonic() + 20
    while word not in host.run("ip", "link", "show", "cnet0aff0102"):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_overflow_counts_as_a_change(host: Netns) -> None:
    monitor = run_in(host.path, Monitor)
    host.run("sh", "-c", "for i in $(seq 400); do for j in 1 2 3; do echo route replace 198.51.100.$((i % 250))/32 dev u0; "
             "echo route del 198.51.100.$((i % 250))/32; done; done | ip -batch -")  # fmt: skip
    assert monitor.drain()
    assert not monitor.drain()
    monitor.close()
