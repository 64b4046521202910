"""The addresses on `lo` at which the cell serves its containers: one more table, which touches no other program's."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from dataplane.netlink.addresses import ADDRESS, IFA_LOCAL, IFA_PROTO, RT_SCOPE_LINK, RTM_NEWADDR
from dataplane.netlink.links import LOOPBACK
from dataplane.netlink.rtnetlink import NEW, change
from dataplane.netlink.underlay import clashes
from dataplane.state import HostState, Resolver
from dataplane.tables import ADDRESS_PROTOCOL
from host.namespace import run_in
from host.netlink.messages import attribute
from host.netlink.socket import connect
from tests.testlib.hosts import EMPTY, Host, make_host
from tests.testlib.netns import Netns

RESOLVER = Resolver(IPv4Address("169.254.0.2"), ("cell.internal",))
REMOVE = ("ip", "address", "del", "169.254.0.2/32", "dev", "lo")
SERVING = replace(EMPTY, resolver=RESOLVER)


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Iterator[Host]:
    made = make_host(netns, containers=1)
    yield made
    made.kernel.close()


def addresses(host: Host) -> str:
    return host.netns.run("ip", "-4", "-o", "address", "show", "dev", "lo")


def serving(host: Host) -> HostState:
    return replace(host.with_workloads(host.workload(0)), resolver=RESOLVER)


def test_the_address_is_there_and_goes_with_its_resolver(host: Host) -> None:
    host.become(SERVING)
    assert "169.254.0.2/32 scope link" in addresses(host)
    assert not host.left_to_do(), str(host.left_to_do())
    host.become(EMPTY)
    assert "169.254" not in addresses(host)


def test_another_address_is_given_before_the_former_one_is_forgotten(host: Host) -> None:
    host.become(SERVING)
    host.become(replace(EMPTY, resolver=replace(RESOLVER, address=IPv4Address("169.254.0.3"))))
    assert "169.254.0.3/32" in addresses(host)
    assert "169.254.0.2" not in addresses(host)


def given(host: Host, address: str, *, scope: int) -> bool:
    """By its number ours; Debian 12's `ip` cannot write that."""
    both = attribute(IFA_LOCAL, IPv4Address(address).packed) + attribute(IFA_PROTO, bytes([ADDRESS_PROTOCOL]))

    def write() -> None:
        with connect(socket.NETLINK_ROUTE) as kernel:
            change(kernel, RTM_NEWADDR, ADDRESS.pack(socket.AF_INET, 32, 0, scope, LOOPBACK) + both, flags=NEW)

    run_in(host.netns.path, write)
    return True


@pytest.mark.parametrize(
    "damage",
    [
        lambda host: host.netns.run("ip", "address", "flush", "dev", "lo"),
        lambda host: given(host, "169.254.0.9", scope=RT_SCOPE_LINK),
        lambda host: (host.netns.run(*REMOVE), given(host, "169.254.0.2", scope=0)),
        lambda host: (host.netns.run(*REMOVE), host.netns.run("ip", "address", "add", "169.254.0.2/32", "dev", "lo")),
    ],
    ids=["gone", "one too many", "of another scope", "not by us"],
)
def test_foreign_damage_is_seen_and_mended(host: Host, damage: Callable[[Host], object]) -> None:
    host.become(SERVING)
    damage(host)
    assert host.left_to_do().addresses
    host.become(SERVING)
    assert not host.left_to_do(), str(host.left_to_do())
    assert addresses(host).count("169.254") == 1


def test_an_address_that_another_program_has_put_there_stays(host: Host) -> None:
    host.netns.run("ip", "address", "add", "169.254.20.10/32", "dev", "lo")
    host.become(SERVING)
    host.become(EMPTY)
    assert "169.254.20.10/32" in addresses(host)


def test_the_host_calls_its_containers_from_another_address_as_before(host: Host) -> None:
    """A container's link has none of its own, and then the kernel takes one of `lo` first, where it may."""
    host.become(host.with_workloads(host.workload(0)))
    before = host.netns.run("ip", "route", "get", "10.255.1.2")
    host.become(serving(host))
    assert host.netns.run("ip", "route", "get", "10.255.1.2") == before
    assert "169.254" not in before


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["address", "add", "169.254.0.2/16", "dev", "u0"], "address 169.254.0.2/16 of u0"),
        (["address", "add", "169.254.0.2/32", "dev", "lo"], "address 169.254.0.2/32 of lo"),
        (["route", "add", "169.254.0.2/32", "dev", "u0"], "route 169.254.0.2/32 on u0"),
    ],
)
def test_what_else_has_the_address_is_found_and_our_own_entry_is_none(host: Host, words: list[str], what: str) -> None:
    def found() -> list[str]:
        return [each.what for each in run_in(host.netns.path, lambda: clashes(EMPTY.overlay, RESOLVER.address))]

    host.become(SERVING)
    assert found() == []
    host.become(EMPTY)
    host.netns.run("ip", *words)
    assert found() == [what]
