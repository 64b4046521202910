"""The one place that knows both worlds: attachments, policies and certificates in, what the host should be out. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from agent.loop.principals import Principals, group_principals
from agent.loop.snapshot import Snapshot
from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from agent.model.publication import on_host
from dataplane.envoy.outbound import LOOPBACK
from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.memo import Memo
from dataplane.state import (
    INBOUND_PORT,
    OUTBOUND_PORT,
    Allow,
    HostService,
    HostState,
    InboundListener,
    Leaf,
    Listener,
    OutboundListener,
    Resolver,
    TlsListener,
    Workload,
)

BOTH_ENDS: Final[tuple[type[Listener], ...]] = (OutboundListener, InboundListener)  # of tunnels

PINS_KEPT = 256  # paths: names come and go, unlike addresses, so what is kept of them must be few


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What does not change while the agent runs. `pins` is the directory of pinned namespaces.

    `longest_tunnel`: seconds for which a tunnel between containers takes new streams.
    """

    overlay: IPv4Network
    subnet: IPv4Network
    pins: Path
    tls_port: int
    egress_allowed: bool
    host_services: tuple[HostService, ...]
    trust_domain: str
    longest_tunnel: int
    ingress_allowed: bool = False
    resolver: Resolver | None = None
    ipv6: bool = True
    mptcp: bool = True

    @property
    def own_ports(self) -> frozenset[int]:
        """Those of every container on which Envoy serves, or may come to: no app can have them."""
        return frozenset({self.tls_port, OUTBOUND_PORT, INBOUND_PORT})


def desired_state(snapshot: Snapshot, *, facts: CellFacts, before: HostState | None = None) -> HostState:
    """The host with a workload for each attachment that is not on its way out. An app without a tag has none yet.

    What is as it was `before` is the same object, which makes all that follows from it cheap.
    """
    known = {} if before is None else before.workloads
    workloads = {
        each.address: _workload(each, tag, snapshot, facts=facts, known=known.get(each.address))
        for each in snapshot.attachments
        if each.phase is not Phase.DETACHING and (tag := snapshot.tags.get(each.app)) is not None
    }
    groups = _groups_named(workloads, snapshot.groups)
    served = snapshot.mutual_tls.served
    return HostState(
        overlay=facts.overlay,
        subnet=facts.subnet,
        mtu=snapshot.underlay.mtu,
        workloads=workloads,
        egress_allowed=facts.egress_allowed,
        ingress_allowed=facts.ingress_allowed,
        never_outside=snapshot.never_outside,
        host_services=facts.host_services,
        ipv6=facts.ipv6,
        mptcp=facts.mptcp,
        trust_bundle=snapshot.trust_bundle,
        groups=groups,
        tunnel=snapshot.underlay.tunnel,
        peers=snapshot.peers if snapshot.underlay.tunnel else {},
        mutual_tls=snapshot.mutual_tls,
        principals=_principals(snapshot.tags, facts.trust_domain, before) if served else {},
        group_principals=group_principals(groups, trust_domain=facts.trust_domain) if served else {},
        tls_port=facts.tls_port,
        resolver=facts.resolver,
        names=snapshot.names,
    )


def _principals(tags: Mapping[AppName, int], trust_domain: str, before: HostState | None) -> Principals:
    """Of tags that are as they were, the same object."""
    known = None if before is None else before.principals
    if isinstance(known, Principals) and known.tags is tags:
        return known
    return Principals(tags, trust_domain=trust_domain)


def _groups_named(workloads: Mapping[IPv4Address, Workload], groups: Mapping[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Those that a right on this cell refers to: a chain each, though it may have no members yet."""
    named = {name for workload in workloads.values() for name in _groups.of(workload.allows)}
    return {name: groups.get(name, frozenset()) for name in sorted(named)}


def _groups_of(allows: frozenset[Allow]) -> frozenset[str]:
    return frozenset(allow.group for allow in allows if allow.group)


_groups: Memo[frozenset[Allow], frozenset[str]] = Memo(_groups_of)


@lru_cache(maxsize=PINS_KEPT)
def pin_of(name: str, *, pins: Path) -> Path:
    """Where an attachment's namespace is pinned."""
    return pins / name


def envoy_ports(attachment: Attachment, *, facts: CellFacts, tunnels: bool) -> tuple[ContainerPort, ...]:
    """The ports that Envoy needs in a container: reserved before its listeners are made, and awaited after.

    With `tunnels` those of their two ends are among them.
    """
    address, pin = attachment.address, pin_of(attachment.name, pins=facts.pins)
    return (ContainerPort(address, facts.tls_port, pin), *(tunnel_ports(attachment, facts=facts) if tunnels else ()))


def tunnel_ports(attachment: Attachment, *, facts: CellFacts) -> tuple[ContainerPort, ContainerPort]:
    """Where a container's own calls enter tunnels, and where those that lead to it end."""
    pin = pin_of(attachment.name, pins=facts.pins)
    return ContainerPort(LOOPBACK, OUTBOUND_PORT, pin), ContainerPort(attachment.address, INBOUND_PORT, pin)


def _workload(attachment: Attachment, tag: int, snapshot: Snapshot, *, facts: CellFacts, known: Workload | None) -> Workload:
    allows = snapshot.resolve(attachment.app)
    outside = snapshot.outside(attachment.app)
    listeners = _listeners(attachment, snapshot, facts=facts, known=() if known is None else known.listeners)
    publish = () if attachment.name in snapshot.drained else on_host(attachment.publish, tls_port=facts.tls_port)
    shape = (attachment.name, attachment.interface, listeners, attachment.limits, publish)
    if known is not None and (known.name, known.interface, known.listeners, known.limits, known.publish) == shape:
        if known.tag == tag and known.allows is allows and known.egress is outside.egress and known.ingress is outside.ingress:
            return known
        return replace(known, tag=tag, allows=allows, egress=outside.egress, ingress=outside.ingress)
    return Workload(
        name=attachment.name,
        address=attachment.address,
        tag=tag,
        pin=pin_of(attachment.name, pins=facts.pins),
        interface=attachment.interface,
        allows=allows,
        listeners=listeners,
        egress=outside.egress,
        ingress=outside.ingress,
        limits=attachment.limits,
        publish=publish,
    )


def _listeners(
    attachment: Attachment, snapshot: Snapshot, *, facts: CellFacts, known: tuple[Listener, ...]
) -> tuple[Listener, ...]:
    """None without a leaf, which is a failed issue that is tried again. Those that are `known` where they are the same."""
    leaf = snapshot.leaves.get(attachment.name)
    if leaf is None:
        return ()
    ends = _tunnel_ends(attachment, snapshot, facts=facts)
    if _stand(known, attachment, leaf, ends=ends):
        return known
    made: list[Listener] = [TlsListener(facts.tls_port, leaf, target_port=attachment.tls_target, http=attachment.tls_http)]
    if OutboundListener in ends:
        made.append(OutboundListener(leaf, longest=facts.longest_tunnel))
    if InboundListener in ends:
        made.append(InboundListener(leaf, facts.own_ports, longest=facts.longest_tunnel))
    return tuple(made)


def _tunnel_ends(attachment: Attachment, snapshot: Snapshot, *, facts: CellFacts) -> tuple[type[Listener], ...]:
    """But those whose port a program has: Envoy must not try to bind there (dataplane/envoy/sockets/container_ports.py)."""
    if not snapshot.mutual_tls.served:
        return ()
    if not snapshot.taken:
        return BOTH_ENDS
    ports = tunnel_ports(attachment, facts=facts)
    return tuple(end for end, port in zip(BOTH_ENDS, ports, strict=True) if port not in snapshot.taken)


def _stand(known: tuple[Listener, ...], attachment: Attachment, leaf: Leaf, *, ends: tuple[type[Listener], ...]) -> bool:
    """Whether these are of that leaf and attachment; the cell's facts stay the same. Each turn asks it of all containers."""
    match known:
        case (TlsListener() as tls, *others):
            is_same = tls.target_port == attachment.tls_target and tls.http == attachment.tls_http
            return is_same and tuple(map(type, others)) == ends and all(each.leaf is leaf for each in known)
        case _:
            return False
