"""HostState in, Envoy's table out: each workload's listeners with their clusters, its leaf, its callers' rights; one bundle.

Pure. What is made of a workload follows from the few facts in `WorkloadResources`, so that a change of another one makes
nothing anew, and a change of its policies nothing but its callers' rights. Where a cell comes or goes, the listeners for own
calls are made anew.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from pathlib import Path
from typing import Final

from dataplane.envoy import secret
from dataplane.envoy.ads.resource import CLUSTER, EXTENSION, LISTENER, SECRET, Resource, ResourceKey, serialized
from dataplane.envoy.ads.table import ResourceTable
from dataplane.envoy.caller_rights import SHARDS, caller_rights, sharded
from dataplane.envoy.cluster import target_cluster
from dataplane.envoy.inbound import inbound_cluster, inbound_listener
from dataplane.envoy.outbound import LOOPBACK, outbound_cluster, outbound_listener
from dataplane.envoy.tls_port import tls_listener
from dataplane.state import Allow, HostState, InboundListener, Listener, OutboundListener, TlsListener, Workload
from dataplane.tables import CELLFUL

Entry = tuple[ResourceKey, Resource]
Parts = tuple[IPv4Network, ...]
# Of the overlay, that each listener for a workload's own calls is told one by one; neighbours count as one
MOST_PARTS: Final = 256
# What the names of a listener and of its cluster begin with
KINDS: Mapping[type[Listener], tuple[str, str]] = {
    TlsListener: ("tls", "target"),
    OutboundListener: ("outbound", "outbound"),
    InboundListener: ("inbound", "inbound"),
}


def _digits(address: IPv4Address) -> str:
    """8 hex digits: what makes the names of a workload's resources unique."""
    return f"{int(address):08x}"


def listening_on(address: IPv4Address, listener: Listener) -> IPv4Address:
    """Where a listener of the workload at `address` listens: calls of its own are taken on its loopback."""
    return LOOPBACK if isinstance(listener, OutboundListener) else address


def listener_key(address: IPv4Address, kind: type[Listener] = TlsListener) -> ResourceKey:
    """A listener of the workload at `address`: that on its TLS port, or one of the two ends of tunnels."""
    return ResourceKey(LISTENER, f"{KINDS[kind][0]}-{_digits(address)}")


def cluster_key(address: IPv4Address, kind: type[Listener] = TlsListener) -> ResourceKey:
    """Where that listener forwards to."""
    return ResourceKey(CLUSTER, f"{KINDS[kind][1]}-{_digits(address)}")


def leaf_key(address: IPv4Address) -> ResourceKey:
    """Its certificate and key."""
    return ResourceKey(SECRET, f"leaf-{_digits(address)}")


@lru_cache(maxsize=CELLFUL)
def rights_keys(address: IPv4Address) -> tuple[ResourceKey, ...]:
    """Which callers may use which of its ports through tunnels, shard by shard."""
    return tuple(ResourceKey(EXTENSION, f"rights-{_digits(address)}-{number}") for number in range(SHARDS))


BUNDLE_KEY = ResourceKey(SECRET, secret.BUNDLE)


def _parts(state: HostState) -> Parts:
    """Those of the overlay that cells have, to which alone a workload's own calls may lead Envoy."""
    found = tuple(collapse_addresses([state.subnet, *state.peers]))
    return found if len(found) <= MOST_PARTS else (state.overlay,)


def _entries(workload: Workload, listener: Listener, parts: Parts) -> tuple[Entry, ...]:
    """The listener, its cluster, and the leaf that both may show."""
    address, pin, kind = workload.address, workload.pin, type(listener)
    named, to, leaf = listener_key(address, kind), cluster_key(address, kind), leaf_key(address)
    match listener:
        case TlsListener():
            cluster = target_cluster(to.name, address=address, port=listener.target_port, pin=pin, http=listener.http)
            made = tls_listener(
                named.name, listener, address=address, pin=pin, leaf_name=leaf.name, cluster_name=to.name,
            )  # fmt: skip
        case OutboundListener():
            cluster = outbound_cluster(to.name, address=address, pin=pin, leaf_name=leaf.name, longest=listener.longest)
            made = outbound_listener(named.name, port=listener.port, parts=parts, pin=pin, cluster_name=to.name)
        case InboundListener():
            cluster = inbound_cluster(to.name, pin=pin)
            made = inbound_listener(
                named.name, listener, address=address, pin=pin,
                leaf_name=leaf.name, cluster_name=to.name, rights_names=[key.name for key in rights_keys(address)],
            )  # fmt: skip
    return ((to, serialized(cluster)), (named, serialized(made)), (leaf, serialized(secret.leaf(leaf.name, listener.leaf))))


@dataclass(frozen=True, slots=True)
class WorkloadResources:
    """What was made of one workload, and of which facts. `allows` are None where Envoy does not judge by them.

    `parts` are none where its own calls are none of Envoy's business. `rights` are its shards, with what they were made of.
    """

    listeners: tuple[Listener, ...]
    pin: Path
    parts: Parts
    entries: tuple[Entry, ...]
    allows: frozenset[Allow] | None = None
    rights: tuple[tuple[frozenset[Allow], Entry], ...] = ()

    def is_served_as(self, workload: Workload, parts: Parts) -> bool:
        """Whether all but the rights is of `workload` as it is. Identity first: to compare certificates takes long. Parts
        that are the same are the same object.
        """
        same = self.listeners is workload.listeners or self.listeners == workload.listeners
        return same and (self.pin is workload.pin or self.pin == workload.pin) and (not self.parts or self.parts is parts)

    def is_judged_by(self, allows: frozenset[Allow]) -> bool:
        """Whether the rights are these, or are none of Envoy's business."""
        return self.allows is None or self.allows is allows or self.allows == allows

    def table(self) -> Mapping[ResourceKey, Resource]:
        """All of it."""
        return dict((*self.entries, *(entry for _, entry in self.rights)))


class Translation:
    """HostStates of one cell into resources, one after the other. Remembers the parts of the last one, and nothing older.

    `made` is what became of each workload: the same object as long as nothing that Envoy has of it changes.
    """

    def __init__(self) -> None:
        self._bundle = b""
        self._peers: Mapping[IPv4Network, IPv4Address] | None = None
        self._parts: Parts = ()
        self._table = ResourceTable()
        self.made: Mapping[IPv4Address, WorkloadResources] = {}

    def of(self, state: HostState) -> ResourceTable:
        """The whole table that Envoy should have; the same object as long as nothing of it changed.

        Without a trust bundle there is no secret to verify callers against: listeners then wait and serve no caller.
        """
        before = self.made
        if state.peers is not self._peers:
            self._peers, parts = state.peers, _parts(state)
            self._parts = self._parts if parts == self._parts else parts
        self.made = {each.address: self._of(each, state) for each in state.workloads.values() if each.listeners}
        outdated = [each for address, each in before.items() if self.made.get(address) is not each]
        fresh = [each for address, each in self.made.items() if before.get(address) is not each]
        put = {key: resource for each in fresh for key, resource in each.table().items()}
        drop = {key for each in outdated for key in each.table() if key not in put}
        if state.trust_bundle != self._bundle:
            self._bundle = state.trust_bundle
            put |= {BUNDLE_KEY: serialized(secret.bundle(self._bundle))} if self._bundle else {}
            drop |= set() if self._bundle else {BUNDLE_KEY}
        self._table = self._table.changed(put, drop=drop)
        return self._table

    def _of(self, workload: Workload, state: HostState) -> WorkloadResources:
        known = self.made.get(workload.address)
        is_same = known is not None and known.is_served_as(workload, self._parts)
        if known is not None and is_same and known.is_judged_by(workload.allows):
            return known
        entries = known.entries if known is not None and is_same else _of_listeners(workload, self._parts)
        parts = self._parts if any(isinstance(each, OutboundListener) for each in workload.listeners) else ()
        if not any(isinstance(each, InboundListener) for each in workload.listeners):
            return WorkloadResources(workload.listeners, workload.pin, parts, entries)
        rights = tuple(_rights(workload.address, workload.allows, state, known.rights if known else ()))
        return WorkloadResources(workload.listeners, workload.pin, parts, entries, workload.allows, rights)


def _of_listeners(workload: Workload, parts: Parts) -> tuple[Entry, ...]:
    return tuple(entry for listener in workload.listeners for entry in _entries(workload, listener, parts))


def _rights(
    address: IPv4Address, allows: frozenset[Allow], state: HostState, known: Sequence[tuple[frozenset[Allow], Entry]]
) -> Iterator[tuple[frozenset[Allow], Entry]]:
    """The shards, of which those that are as they were stay the same."""
    for number, (key, shard) in enumerate(zip(rights_keys(address), sharded(allows), strict=True)):
        if known and known[number][0] == shard:
            yield known[number]
            continue
        made = caller_rights(key.name, number, shard, principals=state.principals, group_principals=state.group_principals)
        yield shard, (key, serialized(made))


def secrets_of(table: ResourceTable, listeners: Collection[str]) -> Mapping[ResourceKey, str | None]:
    """The versions of the secrets with which these listeners, as far as they are in the table, serve and call."""
    named = (name.rpartition("-")[2] for name in listeners if name in table.named(LISTENER))
    leaves = [ResourceKey(SECRET, f"leaf-{digits}") for digits in named]
    return {key: table[key].version for key in (*leaves, *([BUNDLE_KEY] if leaves else ())) if key in table}


def of_workload(table: ResourceTable, address: IPv4Address) -> Mapping[ResourceKey, str | None]:
    """The versions that Envoy must have for the workload at `address` to be served, or None where it must have nothing."""
    keys = [leaf_key(address), *rights_keys(address)]
    for kind in KINDS:
        keys += (cluster_key(address, kind), listener_key(address, kind))
    return {key: table.version(key) for key in keys}
