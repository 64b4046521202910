"""Namespaces inside a container, as a container engine in there makes them: what they call is in no tunnel."""

import socket
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address

import pytest

from host.namespace import run_in
from tests.testlib.beds.redirect import API, APP_PORT, OUTSIDE, PLAIN_TOO, STRICT, Bed, redirect_bed
from tests.testlib.netns import Netns
from tests.testlib.node import Node


@pytest.fixture
def bed() -> Iterator[Bed]:
    with redirect_bed() as made:
        yield made


def test_what_a_namespace_inside_a_container_calls_leaves_in_plain_for_nowhere(bed: Bed, netns: Callable[[str], Netns]) -> None:
    """As of containers within a container: behind its address, and not of its own making, so that no redirect sees them."""
    bed.become(STRICT)
    nested = netns("nested")
    bed.inside.run("ip", "link", "add", "within", "type", "veth", "peer", "name", "eth0", "netns", nested.name)
    bed.inside.run(
        "sh", "-ec", "ip address add 192.168.7.1/24 dev within; ip link set within up; sysctl -qw net.ipv4.ip_forward=1"
    )
    nested.run("sh", "-ec", "ip address add 192.168.7.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.168.7.1")
    masquerade = "table ip own { chain after { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }"
    bed.inside.run("nft", masquerade)
    listeners, caller = bed.listeners(), Node(nested.path, address=IPv4Address("192.168.7.2"))
    assert arrives(caller, OUTSIDE, listeners)
    assert not arrives(caller, API, listeners)
    bed.become(PLAIN_TOO)
    assert arrives(caller, API, listeners), "where plain TCP may leave"
    caller.close()


def arrives(caller: Node, target: IPv4Address, listeners: Mapping[str, socket.socket]) -> bool:
    """Whether a call to the app's port comes to the app at the other end of the link."""
    with run_in(caller.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as made:
        made.settimeout(2)
        try:
            made.connect((str(target), APP_PORT))
        except TimeoutError:
            return False
        listeners["app"].accept()[0].close()
        return True
