"""Which flows, and which streams in tunnels, the HostState does not permit. Pure: a doubtful cut can be judged again.

A connection that exists is judged as the firewall's rules would judge its first packet, a stream as Envoy would judge it if it
were asked for now.
"""

import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final

from dataplane import way_in
from dataplane.admission import admitted, beyond_the_cell
from dataplane.flows.conntrack import Flow
from dataplane.flows.streams import EnvoySockets, TunnelStream, unknown_sockets
from dataplane.network_set import NetworkSet
from dataplane.sets.known_names import KnownNames
from dataplane.state import INBOUND_PORT, Allow, HostState, Workload
from dataplane.tables import TAG_MASK
from dataplane.way_out import WayOut

PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp"}  # an Allow's words; nothing else is ever allowed between containers
SOURCE_TRANSLATED, DESTINATION_TRANSLATED = 1 << 4, 1 << 5  # IPS_SRC_NAT, IPS_DST_NAT
NONE_DEPARTED: Final[Mapping[IPv4Address, int]] = {}
NO_ADDRESSES: Final[frozenset[IPv4Address]] = frozenset()

Ranges = dict[tuple[int, str], list[tuple[int, int]]]
Own = Callable[[], Collection[IPv4Address]]
"""The addresses of the host itself."""
Tunnels = Mapping[tuple[IPv4Address, IPv4Address], frozenset[int]]
"""Source and destination of tunnels -> the tags that they have come with, 0 among them where one is its source's no more."""


class AddressOwner(Enum):
    """What has an address that no container of this cell has."""

    OUTSIDE = auto()  # the world, or the host itself
    PEER = auto()  # another cell's part of the overlay
    NONE = auto()  # in the overlay, but not given to anything


def no_addresses() -> frozenset[IPv4Address]:
    """None."""
    return NO_ADDRESSES


@dataclass(frozen=True, slots=True)
class HostView:
    """What is to be known of the host beside its HostState, each asked for where a judgement needs it.

    `envoy` knows its own sockets from others with their mark, `known` which addresses names outside stand for, `own` the
    addresses of the host itself; without these what comes from there is judged as the world.
    """

    envoy: EnvoySockets = unknown_sockets
    known: KnownNames | None = None
    own: Own = no_addresses


NO_VIEW: Final = HostView()


def forbidden(
    flows: Iterable[Flow],
    state: HostState,
    *,
    departed: Mapping[IPv4Address, int] = NONE_DEPARTED,
    view: HostView = NO_VIEW,
) -> tuple[Flow, ...]:
    """Those of `flows` that `state` does not permit, in the same order.

    Judged by where it really goes (the container behind a published port) are flows to containers of this cell: from its own
    by the tags they have, from other cells' by the tag that came along, which is none where our rules did not see it; nor may
    it be another than `departed` has for that address. What goes to another cell is judged there, but where no TCP passes
    plain, none leaves plain either. An overlay address that nothing has may have no flows at all: the next container that gets
    it must not inherit them. Nor may another cell have a flow with anything here but a container. What a container has begun
    with the world, which is whatever its address was translated for, is judged by its rights there. What the world has begun
    with a container came by a published port, and is judged by the rights to that. Flows between a container and the host,
    which is what has one of its `own` addresses, are left alone, as policies do not speak of them.
    """
    opened: dict[IPv4Address, Ranges] = {}
    owners, way_out, host = _AddressOwners(state), WayOut(state, known=view.known), lru_cache(maxsize=1)(view.own)
    found = []
    for flow in flows:
        source, target = state.workloads.get(flow.source), state.workloads.get(flow.reply_source)
        if target is None or (source is None and owners.of(flow.source) is not AddressOwner.PEER):
            ends = (None if source else owners.of(flow.source), None if target else owners.of(flow.reply_source))
            if target is not None:
                passes = flow.source in host() or _is_let_in(flow, target, state)
            else:
                passes = source is None or not _has_left(flow, ends[1], state, way_out)
            if _is_stray(*ends) or not passes:
                found.append(flow)
            continue
        tag = source.tag if source else _tag_from_afar(flow, departed)
        ranges = opened.get(target.address)
        if ranges is None:
            allows = admitted(target.allows, state.mutual_tls, tls_port=state.tls_port)
            ranges = opened[target.address] = _ranges(allows, state)
        passing = ranges.get((tag, PROTOCOLS.get(flow.protocol, "")), ())
        if not tag or not any(first <= flow.reply_source_port <= last for first, last in passing):
            found.append(flow)
    return tuple(found)


def reached_outside(flows: Iterable[Flow], state: HostState) -> frozenset[IPv4Address]:
    """The addresses of the world that containers of this cell have flows to, which have not ended."""
    return frozenset(
        flow.reply_source
        for flow in flows
        if flow.source in state.workloads
        and flow.reply_source not in state.overlay
        and flow.status & SOURCE_TRANSLATED
        and not flow.is_over
    )


def tunnels(flows: Iterable[Flow], state: HostState, *, departed: Mapping[IPv4Address, int] = NONE_DEPARTED) -> Tunnels:
    """Those of `flows` that are tunnels to containers of this cell."""
    found: dict[tuple[IPv4Address, IPv4Address], set[int]] = {}
    for flow in flows:
        if (flow.protocol, flow.reply_source_port) == (
            socket.IPPROTO_TCP,
            INBOUND_PORT,
        ) and flow.reply_source in state.workloads:
            tag = _tag_from_afar(flow, departed)
            found.setdefault((flow.source, flow.reply_source), set()).add(tag)
    return {ends: frozenset(tags) for ends, tags in found.items()}


def forbidden_streams(streams: Iterable[TunnelStream], state: HostState, *, known: Tunnels) -> dict[TunnelStream, int]:
    """Those that are forbidden, each with its caller's tag, 0 where it has none.

    A caller on another cell has the tag that its tunnel has come with. A stream whose tunnel is not among those `known` is not
    judged: it has ended, and takes its streams along, or is newer than the look at tunnels, which is followed by another.
    """
    rights: dict[IPv4Address, Ranges] = {}
    found: dict[TunnelStream, int] = {}
    for stream in streams:
        target = state.workloads[stream.target]
        ranges = rights.get(target.address)
        if ranges is None:
            ranges = rights[target.address] = _ranges(target.allows, state)
        tags = _caller_tags(stream, state, known)
        if tags is not None and not any(_may(tag, stream.port, ranges) for tag in tags):
            found[stream] = max(tags, default=0)
    return found


def _caller_tags(stream: TunnelStream, state: HostState, known: Tunnels) -> Collection[int] | None:
    """None where they cannot be known."""
    caller = state.workloads.get(stream.caller)
    if caller is not None:
        return (caller.tag,)
    if stream.caller in state.subnet:  # it has gone
        return ()
    return known.get((stream.caller, stream.target))


def _may(tag: int, port: int, ranges: Ranges) -> bool:
    return bool(tag) and any(first <= port <= last for first, last in ranges.get((tag, "tcp"), ()))


def _has_left(flow: Flow, to: AddressOwner | None, state: HostState, way_out: WayOut) -> bool:
    """Whether a container might leave its cell by this when it began, and may not now."""
    if to is AddressOwner.OUTSIDE:
        protocol, port = PROTOCOLS.get(flow.protocol, ""), flow.reply_source_port
        return bool(flow.status & SOURCE_TRANSLATED) and not way_out.is_open(
            flow.source, flow.reply_source, protocol=protocol, port=port
        )
    ports = beyond_the_cell(state)
    return ports is not None and flow.protocol == socket.IPPROTO_TCP and flow.reply_source_port not in ports


def _is_let_in(flow: Flow, to: Workload, state: HostState) -> bool:
    """Whether the world may begin this flow with a container."""
    return bool(flow.status & DESTINATION_TRANSLATED) and way_in.is_open(
        state, to, source=flow.source, protocol=PROTOCOLS.get(flow.protocol, ""), port=flow.reply_source_port
    )


def _is_stray(source: AddressOwner | None, target: AddressOwner | None) -> bool:
    """Whether a flow between these may not be; None is a container of this cell."""
    return AddressOwner.NONE in (source, target) or source is AddressOwner.PEER


def _tag_from_afar(flow: Flow, departed: Mapping[IPv4Address, int]) -> int:
    """The tag that a flow from another cell has come with; 0 where the address has another tag now."""
    tag = flow.mark & TAG_MASK
    return tag if departed.get(flow.source, tag) == tag else 0


class _AddressOwners:
    """Addresses come again and again."""

    def __init__(self, state: HostState) -> None:
        self._state = state
        self._known: dict[IPv4Address, AddressOwner] = {}
        self._peers: NetworkSet | None = None  # many, and most cells' flows stay inside

    def of(self, address: IPv4Address) -> AddressOwner:
        found = self._known.get(address)
        if found is None:
            found = self._known[address] = self._look_up(address)
        return found

    def _look_up(self, address: IPv4Address) -> AddressOwner:
        state = self._state
        if address not in state.overlay:
            return AddressOwner.OUTSIDE
        if state.tunnel is None:
            return AddressOwner.NONE
        if address == state.subnet.network_address:  # the cell's own
            return AddressOwner.OUTSIDE
        if self._peers is None:
            self._peers = NetworkSet(state.peers)
        return AddressOwner.PEER if address in self._peers else AddressOwner.NONE


def _ranges(allows: Iterable[Allow], state: HostState) -> Ranges:
    ranges: Ranges = {}
    for allow in allows:
        for tag in state.tags_of(allow):
            ranges.setdefault((tag, allow.protocol), []).append((allow.first, allow.last))
    return ranges
