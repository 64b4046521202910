"""What Envoy gets of workloads that the kernel has no place for, and what it should have open of those that have one."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.envoy.listeners import Served, ServedListener
from agent.loop.envoy_table import EnvoyTable, servable
from agent.loop.known_kernel import Applied, KnownKernel
from dataplane.envoy.ads.table import ResourceTable
from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.envoy.translation import Translation, listener_key, of_workload
from dataplane.state import HostState, InboundListener, Leaf, TlsListener, Workload
from dataplane.tables import Tables
from host.errors import HostRefused
from tests.testlib.fakes.kernel import SilentEdge

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
    assert servable(wanted, broken=(), served=ResourceTable()) is wanted


def test_what_is_not_in_place_is_not_served() -> None:
    assert servable(state(WEB, API), broken=[API], served=Translation().of(state(WEB))) == state(WEB)


def test_what_was_served_stays_served() -> None:
    both = state(WEB, API)
    assert servable(both, broken=[API], served=Translation().of(both)) is both


LEAVES = tuple(Leaf(b"chain %d" % number, b"key") for number in range(2))


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    leaf = draw(st.sampled_from(LEAVES))
    possible = (TlsListener(61443, leaf, target_port=8080), InboundListener(leaf, frozenset(), longest=60))
    listeners = tuple(each for each in possible if draw(st.booleans()))
    address = IPv4Address("10.255.1.2") + draw(st.integers(0, 3))
    return Workload(str(address), address, tag=1, pin=Path(draw(st.sampled_from(["/one", "/other"]))), listeners=listeners)


def envoy_table() -> EnvoyTable:
    edge: Any = SilentEdge()
    return EnvoyTable(edge)


def by_one_look(known: KnownKernel, published: HostState) -> Served:
    """The same, of all containers at once."""
    table = Translation().of(published)
    return {
        ContainerPort(address, listener.port, workload.pin): ServedListener(
            address, listener_key(address, type(listener)), of_workload(table, address)
        )
        for address, workload in (known.state or state()).workloads.items()
        for listener in workload.listeners
        if address not in known.broken and listener_key(address, type(listener)) in table
    }


@given(st.lists(st.tuples(st.lists(workloads(), max_size=4), st.booleans()), min_size=1, max_size=6))
def test_what_should_be_open_is_what_one_look_at_all_containers_finds(walk: list[tuple[list[Workload], bool]]) -> None:
    table, known = envoy_table(), KnownKernel()
    for found, breaks in walk:
        now = replace(state(), workloads={each.address: each for each in found})
        table.publish(now, broken=())
        assert table.served(known) == by_one_look(known, now)
        broken = {each: HostRefused("no room") for each in [*now.workloads][:1] if breaks}
        known = KnownKernel(Applied(now, Tables(), Tables()), broken=broken)
        assert table.served(known) == by_one_look(known, now)


def test_of_containers_that_have_not_changed_nothing_is_put_together_anew() -> None:
    table, both = envoy_table(), state(WEB, API)
    table.publish(both, broken=())
    before = table.served(KnownKernel(Applied(both, Tables(), Tables())))
    one = replace(both, workloads={**both.workloads, WEB: replace(both.workloads[WEB], pin=Path("/other"))})
    table.publish(one, broken=())
    after = table.served(KnownKernel(Applied(one, Tables(), Tables())))
    assert {port.address for port in after if after[port] is not before.get(port)} == {WEB}
