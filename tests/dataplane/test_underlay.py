"""What the host's own network says: the MTU below the overlay, and addresses that are in use already."""

from collections.abc import Callable
from ipaddress import IPv4Network

import pytest

from dataplane.namespace import run_in
from dataplane.netlink.underlay import clashes, container_mtu
from tests.testlib.hosts import make_host
from tests.testlib.netns import Netns

OVERLAY = IPv4Network("10.255.0.0/16")


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Netns:
    made = netns("host")
    for argv in ("link add u0 mtu 9000 type bridge", "addr add 192.0.2.1/24 dev u0", "link set u0 up"):
        made.run("ip", *argv.split())
    return made


def test_the_mtu_is_the_default_routes_less_what_vxlan_adds(host: Netns) -> None:
    assert run_in(host.path, lambda: container_mtu(None)) == 1450
    host.run("ip", "route", "add", "default", "via", "192.0.2.254")
    assert run_in(host.path, lambda: container_mtu(None)) == 8950


def test_the_interface_that_is_configured_decides(host: Netns) -> None:
    assert run_in(host.path, lambda: container_mtu("u0")) == 8950


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("route add 10.255.3.0/24 via 192.0.2.9", "route 10.255.3.0/24 on u0"),
        ("route add 10.0.0.0/8 via 192.0.2.9", "route 10.0.0.0/8 on u0"),
        ("addr add 10.255.9.9/32 dev u0", "address 10.255.9.9/32 of u0"),
    ],
)
def test_what_overlaps_the_overlay_is_named(host: Netns, command: str, what: str) -> None:
    host.run("ip", *command.split())
    assert what in [clash.what for clash in run_in(host.path, lambda: clashes(OVERLAY))]


def test_a_default_route_and_our_own_entries_are_no_clash(netns: Callable[[str], Netns]) -> None:
    host = make_host(netns, containers=1)
    host.netns.run("ip", "route", "add", "default", "via", "10.77.0.2")
    host.become(host.with_workloads(host.workload(0)))
    assert not run_in(host.netns.path, lambda: clashes(OVERLAY))
    host.kernel.close()
