"""A namespace that its root has filled up, so that a program that reads it all is busy for ever."""

import time
from collections.abc import Callable
from ipaddress import IPv4Address

from dataplane.netlink import interior
from dataplane.tables import Interior, container_mac, host_mac
from tests.testlib.netns import Netns

ADDRESS = IPv4Address("10.255.1.2")


def test_a_crowd_of_routes_does_not_hold_the_agent_up(netns: Callable[[str], Netns]) -> None:
    """Reading all of them took 12 s, and an agent that starts looks into each namespace."""
    place = netns("crowded")
    place.run("ip", "link", "add", "eth0", "type", "bridge")
    wanted = Interior(
        pin=place.path,
        interface="eth0",
        mac=container_mac(ADDRESS),
        gateway_mac=host_mac(ADDRESS),
        mtu=1450,
        original_source=True,
    )
    assert interior.read(ADDRESS, wanted) is None
    interior.program(ADDRESS, wanted)
    crowd = [f"route add 20.{number >> 16}.{number >> 8 & 255}.{number & 255} dev eth0" for number in range(60_000)]
    place.run("ip", "-batch", "-", stdin="\n".join(crowd).encode())
    started = time.monotonic()
    assert interior.read(ADDRESS, wanted) == wanted
    interior.program(ADDRESS, wanted)
    assert time.monotonic() - started < 5.0
