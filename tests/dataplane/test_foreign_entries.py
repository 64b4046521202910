"""What is read of links, routes and neighbours, among all that others have there."""

import socket
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from dataplane.netlink import links, neighbours, routes
from dataplane.tables import KernelRoute, NeighbourKey, Veth
from host import sysctl
from host.namespace import run_in
from host.netlink.socket import connect
from tests.testlib.netns import Netns

OURS, DOWN = "cnet0aff0102", "cnet0aff0103"
SCENE = f"""
link add {OURS} mtu 1400 address 02:00:0a:ff:01:02 type veth peer name a
link set {OURS} up
link add {DOWN} address 02:00:0a:ff:01:03 type veth peer name b
link add cnet0aff0104 type vxlan id 7 dstport 4790
link add cnet0aff01 type veth peer name c
link add other type veth peer name d
link set other up
neigh add 10.255.1.2 lladdr 02:c0:0a:ff:01:02 dev {OURS} nud permanent
neigh add 10.255.1.9 lladdr 02:c0:0a:ff:01:09 dev {OURS} nud reachable
neigh add 10.255.1.8 lladdr 02:c0:0a:ff:01:08 dev other nud permanent
route add 10.255.1.2/32 dev {OURS} proto 157
route add 10.255.1.8/31 dev other proto 157
route add 10.255.1.5/32 dev {OURS} proto static
route add 10.255.1.6/32 dev {OURS} proto 157 table 1000
route add blackhole 10.255.1.7/32 proto 157
"""


def test_our_entries_are_read_and_no_others(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    host.run("ip", "-batch", "-", stdin=SCENE.encode())

    def read() -> tuple[links.Links, dict[NeighbourKey, str], dict[IPv4Network, KernelRoute]]:
        with connect(socket.NETLINK_ROUTE) as kernel:
            found = links.read(kernel)
            return found, neighbours.read(kernel, found.names), routes.read(kernel, found.names)

    found, nearby, ways = run_in(host.path, read)
    assert found.veths == {
        OURS: Veth(address=IPv4Address("10.255.1.2"), mac="02:00:0a:ff:01:02", mtu=1400),
        DOWN: Veth(address=IPv4Address("10.255.1.3"), mac="02:00:0a:ff:01:03", mtu=1500),
    }
    assert found.up == {OURS: True, DOWN: False}
    assert set(found.names.values()) == {OURS, DOWN}
    assert nearby == {NeighbourKey(OURS, IPv4Address("10.255.1.2")): "02:c0:0a:ff:01:02"}
    assert ways == {
        IPv4Network("10.255.1.2/32"): KernelRoute(OURS),
        IPv4Network("10.255.1.8/31"): KernelRoute("?"),
        IPv4Network("10.255.1.7/32"): KernelRoute("?"),
    }


def test_settings_of_links_are_those_of_proc(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    host.run("ip", "-batch", "-", stdin=SCENE.encode())
    names = [name.format(OURS) for name, *_ in links.SETTINGS]

    def read() -> tuple[dict[str, str], dict[str, str]]:
        with connect(socket.NETLINK_ROUTE) as kernel:
            found = links.read(kernel).settings
        return sysctl.read(names), {name: found[name] for name in names}

    seen = set()
    for value in ("1", "0", "2"):
        run_in(host.path, partial(sysctl.write, {name: value if "rp" in name else min(value, "1") for name in names}))
        by_file, by_link = run_in(host.path, read)
        assert by_file == by_link
        seen |= set(by_link.values())
    assert seen == {"0", "1", "2"}
