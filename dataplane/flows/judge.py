"""Which flows the HostState does not permit: pure, so that a doubtful cut can be judged again with the same values.

A connection that exists is judged as the firewall's rules would judge its first packet.
"""

import socket
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from ipaddress import IPv4Address
from typing import Final

from dataplane.admission import admitted, beyond_the_cell
from dataplane.flows.conntrack import Flow
from dataplane.network_set import NetworkSet
from dataplane.state import HostState, Workload
from dataplane.tables import TAG_MASK

PROTOCOLS = {6: "tcp", 17: "udp"}  # an Allow's words; nothing else is ever allowed between containers
SOURCE_TRANSLATED = 1 << 4  # IPS_SRC_NAT
NONE_DEPARTED: Final[Mapping[IPv4Address, int]] = {}

Ranges = dict[tuple[int, str], list[tuple[int, int]]]


class AddressOwner(Enum):
    """What has an address that no container of this cell has."""

    OUTSIDE = auto()  # the world, or the host itself
    PEER = auto()  # another cell's part of the overlay
    NONE = auto()  # in the overlay, but not given to anything


def forbidden(flow: Flow, state: HostState, *, departed: Mapping[IPv4Address, int] = NONE_DEPARTED) -> bool:
    """Whether `state` does not permit this flow.

    Judged by where it really goes (the container behind a published port) are flows to containers of this cell: from its own
    by the tags they have, from other cells' by the tag that came along, which is none where our rules did not see it; nor may
    it be another than `departed` has for that address. What goes to another cell is judged there, but where no TCP passes
    plain, none leaves plain either. An overlay address that nothing has may have no flows at all: the next container that gets
    it must not inherit them. Nor may another cell have a flow with anything here but a container. Flows between a container and
    the host or the world are left alone, as policies do not speak of them, but what once left the overlay where nothing may
    leave it now.
    """
    return bool(all_forbidden((flow,), state, departed=departed))


def all_forbidden(
    flows: Iterable[Flow], state: HostState, *, departed: Mapping[IPv4Address, int] = NONE_DEPARTED
) -> tuple[Flow, ...]:
    """Those of `flows` that are forbidden, in the same order."""
    opened: dict[IPv4Address, Ranges] = {}
    owners = _AddressOwners(state)
    found = []
    for flow in flows:
        source, target = state.workloads.get(flow.source), state.workloads.get(flow.reply_source)
        if target is None or (source is None and owners.of(flow.source) is not AddressOwner.PEER):
            ends = (None if source else owners.of(flow.source), None if target else owners.of(flow.reply_source))
            if _is_stray(*ends) or (source and _has_left(flow, ends[1], state)):
                found.append(flow)
            continue
        tag = source.tag if source else _tag_from_afar(flow, departed)
        ranges = opened.get(target.address)
        if ranges is None:
            ranges = opened[target.address] = _ranges(target, state)
        admitted = ranges.get((tag, PROTOCOLS.get(flow.protocol, "")), ())
        if not tag or not any(first <= flow.reply_source_port <= last for first, last in admitted):
            found.append(flow)
    return tuple(found)


def _has_left(flow: Flow, to: AddressOwner | None, state: HostState) -> bool:
    """Whether a container might leave its cell by this when it began, and may not now."""
    if to is AddressOwner.OUTSIDE:
        return not state.egress_allowed and bool(flow.status & SOURCE_TRANSLATED)
    ports = beyond_the_cell(state)
    return ports is not None and flow.protocol == socket.IPPROTO_TCP and flow.reply_source_port not in ports


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


def _ranges(workload: Workload, state: HostState) -> Ranges:
    ranges: Ranges = {}
    for allow in admitted(workload.allows, state.mutual_tls, tls_port=state.tls_port):
        for tag in state.tags_of(allow):
            ranges.setdefault((tag, allow.protocol), []).append((allow.first, allow.last))
    return ranges
