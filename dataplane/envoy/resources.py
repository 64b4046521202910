"""HostState in, Envoy's table out: for each workload with TLS a listener, a cluster and a secret, and one trust bundle.

Pure. Everything of a workload is made of the few facts in `Port` and of its leaf, so that a change of its policies or of
another workload makes nothing anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.envoy import secret
from dataplane.envoy.address import suffix
from dataplane.envoy.cluster import target_cluster
from dataplane.envoy.listener import tls_listener
from dataplane.envoy.resource import CLUSTER, LISTENER, SECRET, Resource, ResourceKey, serialized
from dataplane.state import HostState, Leaf

Entry = tuple[ResourceKey, Resource]


def listener_key(address: IPv4Address) -> ResourceKey:
    """The listener of the workload at `address`."""
    return ResourceKey(LISTENER, f"tls-{suffix(address)}")


def cluster_key(address: IPv4Address) -> ResourceKey:
    """Its cluster."""
    return ResourceKey(CLUSTER, f"target-{suffix(address)}")


def leaf_key(address: IPv4Address) -> ResourceKey:
    """Its certificate and key."""
    return ResourceKey(SECRET, f"leaf-{suffix(address)}")


BUNDLE_KEY = ResourceKey(SECRET, secret.BUNDLE)


@dataclass(frozen=True, slots=True)
class Port:
    """All that a listener and its cluster depend on."""

    address: IPv4Address
    port: int
    target_port: int
    pin: Path
    http: bool


def _of_port(port: Port) -> tuple[Entry, ...]:
    listener, cluster, leaf = listener_key(port.address), cluster_key(port.address), leaf_key(port.address)
    return (
        (
            cluster,
            serialized(
                target_cluster(
                    cluster.name, address=port.address, port=port.target_port, pin=port.pin, http=port.http
                )
            ),
        ),
        (
            listener,
            serialized(
                tls_listener(
                    listener.name, address=port.address, port=port.port, pin=port.pin,
                    leaf_name=leaf.name, cluster_name=cluster.name, is_http=port.http,
                )
            ),
        ),
    )  # fmt: skip


class Translation:
    """HostStates into resources, one after the other. Remembers the parts of the last one, and nothing older."""

    def __init__(self) -> None:
        self._made_of: object = None
        self._table: Mapping[ResourceKey, Resource] = {}
        self._ports: Mapping[Port, tuple[Entry, ...]] = {}
        self._leaves: Mapping[tuple[IPv4Address, Leaf], Resource] = {}

    def of(self, state: HostState) -> Mapping[ResourceKey, Resource]:
        """The whole table that Envoy should have.

        Without a trust bundle there is no secret to verify callers against: listeners then wait and serve nobody.
        """
        made_of = state.tls_port, state.trust_bundle, [(each.address, each.pin, each.tls) for each in state.workloads.values()]
        if made_of != self._made_of:
            self._table, self._made_of = self._made(state), made_of
        return self._table

    def _made(self, state: HostState) -> Mapping[ResourceKey, Resource]:
        served = [(each, each.tls) for each in state.workloads.values() if each.tls]
        ports = [Port(each.address, state.tls_port, tls.target_port, each.pin, tls.http) for each, tls in served]
        self._ports = {port: self._ports.get(port) or _of_port(port) for port in ports}
        self._leaves = {
            (each.address, tls.leaf): self._leaves.get((each.address, tls.leaf))
            or serialized(secret.leaf(leaf_key(each.address).name, tls.leaf))
            for each, tls in served
        }
        return dict(sorted(self._entries(state), key=lambda entry: (entry[0].type_url, entry[0].name)))

    def _entries(self, state: HostState) -> Iterator[Entry]:
        for entries in self._ports.values():
            yield from entries
        for (address, _), resource in self._leaves.items():
            yield leaf_key(address), resource
        if state.trust_bundle:
            yield BUNDLE_KEY, serialized(secret.bundle(state.trust_bundle))


def resources(state: HostState) -> Mapping[ResourceKey, Resource]:
    """The whole table, made from nothing."""
    return Translation().of(state)


def of_workload(table: Mapping[ResourceKey, Resource], address: IPv4Address) -> Mapping[ResourceKey, str | None]:
    """The versions that Envoy must have for the workload at `address` to be served, or None where it must have nothing."""
    keys = (cluster_key(address), leaf_key(address), listener_key(address))
    return {key: table[key].version if key in table else None for key in keys}
