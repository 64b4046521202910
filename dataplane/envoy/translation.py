"""HostState in, Envoy's table out: for each listener of a workload its own, a cluster and a secret, and one trust bundle.

Pure. Everything of a workload is made of the few facts in `WorkloadResources`, so that a change of its policies or of another
workload makes nothing anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.envoy import secret
from dataplane.envoy.cluster import target_cluster
from dataplane.envoy.listener import tls_listener
from dataplane.envoy.resource import CLUSTER, LISTENER, SECRET, Resource, ResourceKey, serialized
from dataplane.state import HostState, Listener, TlsListener, Workload

Entry = tuple[ResourceKey, Resource]


def _digits(address: IPv4Address) -> str:
    """8 hex digits: what makes the names of a workload's resources unique."""
    return f"{int(address):08x}"


def listener_key(address: IPv4Address) -> ResourceKey:
    """The listener on the TLS port of the workload at `address`."""
    return ResourceKey(LISTENER, f"tls-{_digits(address)}")


def cluster_key(address: IPv4Address) -> ResourceKey:
    """Its cluster."""
    return ResourceKey(CLUSTER, f"target-{_digits(address)}")


def leaf_key(address: IPv4Address) -> ResourceKey:
    """Its certificate and key."""
    return ResourceKey(SECRET, f"leaf-{_digits(address)}")


BUNDLE_KEY = ResourceKey(SECRET, secret.BUNDLE)


def _entries(workload: Workload, tls: TlsListener) -> tuple[Entry, ...]:
    address = workload.address
    listener, cluster, leaf = listener_key(address), cluster_key(address), leaf_key(address)
    return (
        (
            cluster,
            serialized(
                target_cluster(cluster.name, address=address, port=tls.target_port, pin=workload.pin, http=tls.http)
            ),
        ),
        (
            listener,
            serialized(
                tls_listener(
                    listener.name, address=address, port=tls.port, pin=workload.pin,
                    leaf_name=leaf.name, cluster_name=cluster.name, is_http=bool(tls.http),
                )
            ),
        ),
        (leaf, serialized(secret.leaf(leaf.name, tls.leaf))),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkloadResources:
    """What was made of one workload, and of which facts."""

    listeners: tuple[Listener, ...]
    pin: Path
    entries: tuple[Entry, ...]

    def is_of(self, workload: Workload) -> bool:
        """Whether nothing has changed. Identity comes first: comparing 250 certificates at each turn costs milliseconds."""
        same = self.listeners is workload.listeners or self.listeners == workload.listeners
        return same and (self.pin is workload.pin or self.pin == workload.pin)


class Translation:
    """HostStates into resources, one after the other. Remembers the parts of the last one, and nothing older."""

    def __init__(self) -> None:
        self._bundle: bytes | None = None
        self._table: Mapping[ResourceKey, Resource] = {}
        self._made: Mapping[IPv4Address, WorkloadResources] = {}

    def of(self, state: HostState) -> Mapping[ResourceKey, Resource]:
        """The whole table that Envoy should have; the same object as long as nothing of it changed.

        Without a trust bundle there is no secret to verify callers against: listeners then wait and serve no caller.
        """
        made = {each.address: self._of(each) for each in state.workloads.values() if each.listeners}
        changed = made.keys() != self._made.keys() or any(made[address] is not held for address, held in self._made.items())
        if changed or state.trust_bundle != self._bundle:
            self._made, self._bundle = made, state.trust_bundle
            self._table = dict(sorted(self._all(state), key=lambda entry: (entry[0].type_url, entry[0].name)))
        return self._table

    def _of(self, workload: Workload) -> WorkloadResources:
        known = self._made.get(workload.address)
        if known is not None and known.is_of(workload):
            return known
        tls = (listener for listener in workload.listeners if isinstance(listener, TlsListener))
        entries = tuple(entry for listener in tls for entry in _entries(workload, listener))
        return WorkloadResources(workload.listeners, workload.pin, entries)

    def _all(self, state: HostState) -> Iterator[Entry]:
        for made in self._made.values():
            yield from made.entries
        if state.trust_bundle:
            yield BUNDLE_KEY, serialized(secret.bundle(state.trust_bundle))


def of_workload(table: Mapping[ResourceKey, Resource], address: IPv4Address) -> Mapping[ResourceKey, str | None]:
    """The versions that Envoy must have for the workload at `address` to be served, or None where it must have nothing."""
    keys = (cluster_key(address), leaf_key(address), listener_key(address))
    return {key: table[key].version if key in table else None for key in keys}
