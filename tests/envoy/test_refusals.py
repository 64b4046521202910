"""What Envoy does not take: its words reach the callers that wait, and everything else goes on."""

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.envoy.ads.resource import CLUSTER, LISTENER, SECRET, Resource, ResourceKey, serialized
from dataplane.envoy.ads.table import ResourceTable
from dataplane.envoy.process import admin
from dataplane.envoy.sockets.container_ports import ContainerPort, await_listening
from dataplane.envoy.translation import listener_key, of_workload
from dataplane.state import Leaf, TlsListener, Workload
from host.errors import HostRefused
from host.namespace import run_in
from tests.testlib.certificates import client_context
from tests.testlib.envoy import API, PORT, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial_tls, exchange
from tests.testlib.patience import eventually


def strangers(cell: EnvoyCell, count: int, *, pin: Path = Path("/run/netns/nowhere")) -> dict[IPv4Address, Workload]:
    """Workloads whose namespace is not there."""
    leaf = cell.leaf()
    addresses = [IPv4Address("10.255.1.100") + each for each in range(count)]
    return {each: Workload(f"lost-{each}", each, 9, pin, listeners=(TlsListener(PORT, leaf, 8080),)) for each in addresses}


def test_a_listener_whose_namespace_is_missing_is_refused_alone(cell: EnvoyCell, pair: EnvoyPair, app: EchoApp) -> None:
    lost = strangers(cell, 5)
    cell.put(pair.workload(cell.leaf()), *lost.values())
    cell.settle(API)
    await_listening(ContainerPort(API, PORT, pair.api.path), timeout=20)
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        assert exchange(connection, b"hello") == b"hello"
    for address in lost:
        with pytest.raises(HostRefused, match=f"refused listener {listener_key(address).name}: .*/run/netns/nowhere"):
            cell.settle(address)
    assert set(cell.status().refused) == {listener_key(address) for address in lost}
    assert admin.listeners(cell.envoy.settings.admin) == {listener_key(API).name}


def test_after_a_refusal_a_restarted_agent_pushes_only_what_was_refused(cell: EnvoyCell, pair: EnvoyPair) -> None:
    cell.put(pair.workload(cell.leaf()), *strangers(cell, 1).values())
    with pytest.raises(HostRefused):
        cell.settle(*strangers(cell, 1))
    cell.settle(API)
    cell.restart_ads()
    with pytest.raises(HostRefused):
        cell.settle(*strangers(cell, 1))
    assert cell.status().pushed <= 2  # the listener; its secret too if Envoy has not subscribed to it


def test_what_was_refused_is_forgotten_when_it_is_withdrawn_and_tried_anew_when_it_returns(
    cell: EnvoyCell, pair: EnvoyPair
) -> None:
    cell.put(*strangers(cell, 1).values())
    with pytest.raises(HostRefused):
        cell.settle(*strangers(cell, 1))
    before = cell.status().pushed
    cell.drop(*strangers(cell, 1))
    cell.settle(*strangers(cell, 1))
    assert cell.status().refused == {}
    cell.put(*strangers(cell, 1).values())
    with pytest.raises(HostRefused):
        cell.settle(*strangers(cell, 1))
    assert cell.status().pushed > before


def test_a_return_in_the_same_moment_is_a_new_try_as_well(cell: EnvoyCell, pair: EnvoyPair) -> None:
    cell.put(*strangers(cell, 1).values())
    with pytest.raises(HostRefused):
        cell.settle(*strangers(cell, 1))
    before = cell.status().pushed
    table = cell.table

    def withdraw_and_return() -> None:
        cell.ads.publish(ResourceTable())
        cell.ads.publish(table)

    cell.loop.call(withdraw_and_return)
    eventually(lambda: cell.status().pushed > before)
    with pytest.raises(HostRefused):
        cell.settle(*strangers(cell, 1))


def test_what_was_in_the_way_may_go_and_a_retry_succeeds(cell: EnvoyCell, pair: EnvoyPair) -> None:
    import socket

    squatter = run_in(pair.api.path, lambda: socket.create_server((str(API), PORT)))
    cell.put(pair.workload(cell.leaf()))
    with pytest.raises(HostRefused, match=r"Address already in use"):
        cell.settle(API)
    squatter.close()
    cell.loop.call(cell.ads.retry)
    cell.settle(API)
    await_listening(ContainerPort(API, PORT, pair.api.path), timeout=20)


@pytest.mark.parametrize("half", ["chain", "key"])
def test_a_broken_secret_is_refused_and_the_others_of_its_push_are_taken(cell: EnvoyCell, pair: EnvoyPair, half: str) -> None:
    leaf = cell.leaf()
    broken = Leaf(**{"chain": leaf.chain, "key": leaf.key, half: b"no PEM"})
    web = Workload("web", WEB, 8, pair.web.path, listeners=(TlsListener(PORT, broken, 8080),))
    cell.put(pair.workload(leaf), web)
    with pytest.raises(HostRefused, match="refused secret leaf-0aff0102"):
        cell.settle(WEB)
    cell.settle(API)
    await_listening(ContainerPort(API, PORT, pair.api.path), timeout=20)


def test_a_broken_new_secret_leaves_the_old_one_in_force(cell: EnvoyCell, pair: EnvoyPair, app: EchoApp) -> None:
    cell.serve(pair.workload(cell.leaf()))
    other = cell.leaf()
    cell.put(pair.workload(Leaf(other.chain, cell.leaf().key)))
    with pytest.raises(HostRefused, match="refused secret"):
        cell.settle(API)
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        assert exchange(connection, b"hello") == b"hello"
    cell.put(pair.workload(other))
    cell.settle(API)
    assert cell.status().refused == {}


@pytest.mark.parametrize("type_url", [CLUSTER, LISTENER])
def test_a_resource_that_is_no_message_at_all_is_found_among_fifty(cell: EnvoyCell, pair: EnvoyPair, type_url: str) -> None:
    bad = ResourceKey(type_url, "tls-0aff0150")
    good = {key: each for key, each in table_of(cell, pair, 50).items() if key.type_url == type_url}
    cell.publish_table({**good, bad: Resource("0" * 16, b"\xff\xff\xff")})
    with pytest.raises(HostRefused, match="tls-0aff0150"):
        cell.settle_versions({bad: "0" * 16})
    cell.settle_versions({key: each.version for key, each in good.items()})
    assert set(cell.status().refused) == {bad}


def test_an_empty_message_is_refused_alone(cell: EnvoyCell, pair: EnvoyPair) -> None:
    from envoy.config.listener.v3.listener_pb2 import Listener

    bad, resource = ResourceKey(LISTENER, "tls-0aff0150"), serialized(Listener(name="tls-0aff0150"))
    good = table_of(cell, pair, 20)
    cell.publish_table({**good, bad: resource})
    with pytest.raises(HostRefused):
        cell.settle_versions({bad: resource.version})
    cell.settle_versions({key: each.version for key, each in good.items() if key.type_url != SECRET})


def table_of(cell: EnvoyCell, pair: EnvoyPair, count: int) -> dict[ResourceKey, Resource]:
    """The resources of so many workloads, all in one namespace that has their addresses."""
    pair.api.run("sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1")
    one = pair.workload(cell.leaf())
    addresses = [IPv4Address("10.255.1.100") + each for each in range(count)]
    workloads = {each: replace(one, name=str(each), address=each) for each in addresses}
    return dict(cell.translation.of(replace(cell.state, workloads=workloads)))


def test_settling_lists_what_is_refused_even_if_something_else_is_late(cell: EnvoyCell, pair: EnvoyPair) -> None:
    cell.put(*strangers(cell, 1).values())
    never = ResourceKey(LISTENER, "never-published")
    (address,) = strangers(cell, 1)
    with pytest.raises(HostRefused):
        cell.settle_versions({never: "1", **of_workload(cell.table, address)})


def test_a_field_that_envoy_does_not_know_is_refused_and_never_ignored(cell: EnvoyCell, pair: EnvoyPair) -> None:
    cell.put(pair.workload(cell.leaf()))
    cell.settle(API)
    key = listener_key(API)
    unknown = b"\xfa\xff\x07\x01x"  # number 16,383, of one byte
    cell.publish_table({**cell.table, key: Resource("strange", cell.table[key].body + unknown)})
    with pytest.raises(HostRefused, match="unknown field"):
        cell.settle_versions({key: "strange"})
