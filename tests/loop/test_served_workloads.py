"""What Envoy gets of workloads that the kernel has no place for."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from agent.loop.envoy_table import servable
from dataplane.envoy.translation import Translation
from dataplane.state import HostState, Leaf, TlsListener, Workload

WEB, API = IPv4Address("10.255.1.2"), IPv4Address("10.255.1.3")


def state(*addresses: IPv4Address) -> HostState:
    listeners = (TlsListener(61443, Leaf(chain=b"chain", key=b"key"), target_port=8080),)
    workloads = {
        each: Workload(name=str(each), address=each, tag=1, pin=Path("/pin"), listeners=listeners) for each in addresses
    }
    return HostState(
        overlay=IPv4Network("10.255.0.0/16"),
        subnet=IPv4Network("10.255.1.0/24"),
        mtu=1450,
        workloads=workloads,
        trust_bundle=b"",
    )


def test_everything_is_served_when_everything_is_in_place() -> None:
    wanted = state(WEB, API)
    assert servable(wanted, broken=(), served={}) is wanted


def test_what_is_not_in_place_is_not_served() -> None:
    assert servable(state(WEB, API), broken=[API], served=Translation().of(state(WEB))) == state(WEB)


def test_what_was_served_stays_served() -> None:
    both = state(WEB, API)
    assert servable(both, broken=[API], served=Translation().of(both)) is both
