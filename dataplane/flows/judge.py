"""Which flows the HostState does not permit: pure, so that whoever doubts a cut can ask again with the same values.

It says of a connection that exists what the firewall's rules would say of its first packet.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address

from dataplane.flows.conntrack import Flow
from dataplane.state import HostState, Workload

PROTOCOLS = {6: "tcp", 17: "udp"}  # an Allow's words; nothing else is ever allowed between containers

Ranges = dict[tuple[int, str], list[tuple[int, int]]]


def forbidden(flow: Flow, state: HostState) -> bool:
    """Whether `state` does not permit this flow.

    Judged by where it really goes (the container behind a published port) are flows between containers. An overlay address
    that no workload has may have no flows at all: whoever gets it next must not inherit them. Flows between a container and
    the host or the world are left alone: policies do not speak of them.
    """
    return bool(all_forbidden((flow,), state))


def all_forbidden(flows: Iterable[Flow], state: HostState) -> tuple[Flow, ...]:
    """Those of `flows` that are forbidden, in the same order."""
    opened: dict[IPv4Address, Ranges] = {}
    found = []
    for flow in flows:
        source, target = state.workloads.get(flow.source), state.workloads.get(flow.reply_source)
        if source is None or target is None:
            stray = (source is None and flow.source in state.overlay) or (target is None and flow.reply_source in state.overlay)
            if stray:
                found.append(flow)
            continue
        ranges = opened.get(target.address)
        if ranges is None:
            ranges = opened[target.address] = _ranges(target, state)
        admitted = ranges.get((source.tag, PROTOCOLS.get(flow.protocol, "")), ())
        if not any(first <= flow.reply_source_port <= last for first, last in admitted):
            found.append(flow)
    return tuple(found)


def _ranges(workload: Workload, state: HostState) -> Ranges:
    ranges: Ranges = {}
    for allow in workload.allows:
        for tag in state.tags_of(allow):
            ranges.setdefault((tag, allow.protocol), []).append((allow.first, allow.last))
    return ranges
