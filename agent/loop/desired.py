"""The one place that knows both worlds: attachments, policies and certificates in, what the host should be out. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from agent.loop.snapshot import Snapshot
from agent.model.attachment import Attachment, Phase
from dataplane.envoy.resource import Resource, ResourceKey
from dataplane.envoy.resources import listener_key
from dataplane.memo import Memo
from dataplane.state import Allow, HostService, HostState, Leaf, Tls, Workload


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What does not change while the agent runs. `pins` is the directory of pinned namespaces."""

    overlay: IPv4Network
    subnet: IPv4Network
    pins: Path
    tls_port: int
    egress_allowed: bool
    host_services: tuple[HostService, ...]


def desired_state(snapshot: Snapshot, *, facts: CellFacts, before: HostState | None = None) -> HostState:
    """The host with a workload for each attachment that is not on its way out. An app without a tag has none yet.

    What is as it was `before` is the same object, which makes all that follows from it cheap.
    """
    present = [each for each in snapshot.attachments if each.phase is not Phase.DETACHING and each.app in snapshot.tags]
    known = {} if before is None else before.workloads
    workloads = {each.address: _workload(each, snapshot, facts=facts, known=known.get(each.address)) for each in present}
    return HostState(
        overlay=facts.overlay,
        subnet=facts.subnet,
        mtu=snapshot.underlay.mtu,
        workloads=workloads,
        tls_port=facts.tls_port,
        egress_allowed=facts.egress_allowed,
        host_services=facts.host_services,
        trust_bundle=snapshot.trust_bundle,
        groups=_groups_named(workloads, snapshot.groups),
        tunnel=snapshot.underlay.tunnel,
        peers=snapshot.peers if snapshot.underlay.tunnel else {},
    )


def _groups_named(workloads: Mapping[IPv4Address, Workload], groups: Mapping[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Those that a right on this cell refers to: a chain each, though it may have no members yet."""
    named = {name for workload in workloads.values() for name in _groups.of(workload.allows)}
    return {name: groups.get(name, frozenset()) for name in sorted(named)}


def _groups_of(allows: frozenset[Allow]) -> frozenset[str]:
    return frozenset(allow.group for allow in allows if allow.group)


_groups: Memo[frozenset[Allow], frozenset[str]] = Memo(_groups_of)


def pin_of(name: str, *, pins: Path) -> Path:
    """Where an attachment's namespace is pinned."""
    return pins / name


def _workload(attachment: Attachment, snapshot: Snapshot, *, facts: CellFacts, known: Workload | None) -> Workload:
    leaf, tag, allows = snapshot.leaves.get(attachment.name), snapshot.tags[attachment.app], snapshot.resolve(attachment.app)
    if known is not None and _is_that(known, attachment, leaf):
        return known if known.tag == tag and known.allows is allows else replace(known, tag=tag, allows=allows)
    return Workload(
        name=attachment.name,
        address=attachment.address,
        tag=tag,
        pin=pin_of(attachment.name, pins=facts.pins),
        interface=attachment.interface,
        allows=allows,
        tls=None if leaf is None else Tls(leaf=leaf, target_port=attachment.tls_target, http=attachment.tls_http),
    )


def _is_that(known: Workload, attachment: Attachment, leaf: Leaf | None) -> bool:
    """Whether a workload is still that of an attachment, whatever may have become of its tag and rights."""
    tls = known.tls
    return (
        tls is not None
        and tls.leaf is leaf
        and (known.name, known.interface) == (attachment.name, attachment.interface)
        and (tls.target_port, tls.http) == (attachment.tls_target, attachment.tls_http)
    )


def servable(state: HostState, *, failures: Collection[IPv4Address], served: Mapping[ResourceKey, Resource]) -> HostState:
    """`state` without the workloads that are not in place, unless Envoy has them already (`served`): those keep their calls.

    Envoy could not bind in their namespaces, and one that fails to bind stays in the namespace with its main thread.
    """
    left_out = {address for address in failures if listener_key(address) not in served}
    if not left_out:
        return state
    return replace(state, workloads={key: value for key, value in state.workloads.items() if key not in left_out})
