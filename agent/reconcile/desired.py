"""The one place that knows both worlds: attachments, policies and certificates in, what the host should be out. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from dataplane.state import Allow, HostService, HostState, Leaf, Tls, Workload
from dataplane.tables import CELLFUL

Resolve = Callable[[AppName], frozenset[Allow]]


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What does not change while the agent runs. `pins` is the directory of pinned namespaces."""

    overlay: IPv4Network
    subnet: IPv4Network
    mtu: int
    pins: Path
    tls_port: int
    egress_allowed: bool
    host_services: tuple[HostService, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that decides what the cell should look like at one moment."""

    attachments: tuple[Attachment, ...]
    tags: Mapping[AppName, int]
    leaves: Mapping[str, Leaf]
    resolve: Resolve
    trust_bundle: bytes
    groups: Mapping[str, frozenset[int]] = field(default_factory=dict)


def desired_state(snapshot: Snapshot, *, facts: CellFacts) -> HostState:
    """The host with a workload for each attachment that is not on its way out. An app without a tag has none yet."""
    present = [each for each in snapshot.attachments if each.phase is not Phase.DETACHING and each.app in snapshot.tags]
    workloads = {each.address: _workload(each, snapshot, facts=facts) for each in present}
    return HostState(
        overlay=facts.overlay,
        subnet=facts.subnet,
        mtu=facts.mtu,
        workloads=workloads,
        tls_port=facts.tls_port,
        egress_allowed=facts.egress_allowed,
        host_services=facts.host_services,
        trust_bundle=snapshot.trust_bundle,
        groups=_groups_named(workloads, snapshot.groups),
    )


def _groups_named(workloads: Mapping[IPv4Address, Workload], groups: Mapping[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Those that a right on this cell refers to: a chain each, though it may have no members yet."""
    named = {name for workload in workloads.values() for name in _groups_of(workload.allows)}
    return {name: groups.get(name, frozenset()) for name in sorted(named)}


@lru_cache(maxsize=CELLFUL)
def _groups_of(allows: frozenset[Allow]) -> frozenset[str]:
    return frozenset(allow.group for allow in allows if allow.group)


@lru_cache(maxsize=CELLFUL)
def pin_of(name: str, *, pins: Path) -> Path:
    """Where an attachment's namespace is pinned."""
    return pins / name


def _workload(attachment: Attachment, snapshot: Snapshot, *, facts: CellFacts) -> Workload:
    leaf = snapshot.leaves.get(attachment.name)
    return Workload(
        name=attachment.name,
        address=attachment.address,
        tag=snapshot.tags[attachment.app],
        pin=pin_of(attachment.name, pins=facts.pins),
        interface=attachment.interface,
        allows=snapshot.resolve(attachment.app),
        tls=None if leaf is None else Tls(leaf=leaf, target_port=attachment.tls_target, http=attachment.tls_http),
    )
