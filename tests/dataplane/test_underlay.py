"""What the host's own network says: the MTU below the overlay, and addresses that are in use already."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane.netlink.underlay import Underlay, clashes, find_underlay
from host.namespace import run_in
from tests.testlib.hosts import make_host
from tests.testlib.netns import Netns

OVERLAY = IPv4Network("10.255.0.0/16")


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Netns:
    made = netns("host")
    for argv in ("link add u0 mtu 9000 type bridge", "addr add 10.77.0.1/24 dev u0", "link set u0 up"):
        made.run("ip", *argv.split())
    return made


def asked(host: Netns, address: str | None = None, interface: str | None = None) -> Underlay | None:
    given = None if address is None else IPv4Address(address)
    return run_in(host.path, lambda: find_underlay(given, interface))


def test_the_underlay_is_where_the_default_route_leads(host: Netns) -> None:
    assert asked(host) is None
    host.run("ip", "route", "add", "default", "via", "10.77.0.254")
    assert asked(host) == Underlay("u0", IPv4Address("10.77.0.1"), 9000)


def test_its_address_is_the_one_that_the_host_speaks_with(host: Netns) -> None:
    host.run("ip", "addr", "add", "10.77.0.7/24", "dev", "u0")
    host.run("ip", "route", "add", "default", "via", "10.77.0.254", "src", "10.77.0.7")
    assert asked(host) == Underlay("u0", IPv4Address("10.77.0.7"), 9000)


def test_what_is_named_decides(host: Netns) -> None:
    host.run("ip", "addr", "add", "10.77.0.7/24", "dev", "u0")
    assert asked(host, interface="u0") == Underlay("u0", IPv4Address("10.77.0.1"), 9000)
    assert asked(host, "10.77.0.7") == Underlay("u0", IPv4Address("10.77.0.7"), 9000)
    assert asked(host, "10.77.0.7", "u0") == Underlay("u0", IPv4Address("10.77.0.7"), 9000)
    assert asked(host, "10.77.0.8") is None
    assert asked(host, "10.77.0.7", "lo") is None
    assert asked(host, interface="u1") is None


def test_an_address_of_lo_is_reached_over_the_link_that_carries_its_traffic(host: Netns) -> None:
    host.run("ip", "link", "set", "lo", "up")
    host.run("ip", "addr", "add", "192.0.2.7/32", "dev", "lo")
    assert asked(host, "192.0.2.7") is None
    assert asked(host, "192.0.2.7", "u0") == Underlay("u0", IPv4Address("192.0.2.7"), 9000)
    host.run("ip", "route", "add", "default", "via", "10.77.0.254")
    assert asked(host, "192.0.2.7") == Underlay("u0", IPv4Address("192.0.2.7"), 9000)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("route add 10.255.3.0/24 via 10.77.0.9", "route 10.255.3.0/24 on u0"),
        ("route add 10.255.0.0/16 via 10.77.0.9", "route 10.255.0.0/16 on u0"),
        ("addr add 10.255.9.9/8 dev u0", "address 10.255.9.9/8 of u0"),
        ("addr add 10.255.9.9/32 dev u0", "address 10.255.9.9/32 of u0"),
    ],
)
def test_what_overlaps_the_overlay_is_named(host: Netns, command: str, what: str) -> None:
    host.run("ip", *command.split())
    assert what in [clash.what for clash in run_in(host.path, lambda: clashes(OVERLAY))]


@pytest.mark.parametrize("network", ["0.0.0.0/1 128.0.0.0/1", "10.0.0.0/8"])
def test_a_less_specific_route_is_no_clash(host: Netns, network: str) -> None:
    for each in network.split():
        host.run("ip", "route", "add", each, "via", "10.77.0.9")
    assert not run_in(host.path, lambda: clashes(OVERLAY))


def test_a_default_route_and_our_own_entries_are_no_clash(netns: Callable[[str], Netns]) -> None:
    host = make_host(netns, containers=1)
    host.netns.run("ip", "route", "add", "default", "via", "10.77.0.2")
    host.become(host.with_workloads(host.workload(0)))
    assert not run_in(host.netns.path, lambda: clashes(OVERLAY))
    host.kernel.close()
