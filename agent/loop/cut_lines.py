"""What a receipt says to people: which app has lost how many connections to which, by name as far as tags have one. Pure."""

from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import NamedTuple

from agent.model.names import AppName
from dataplane.flows.conntrack import PROTOCOLS, Flow
from dataplane.flows.cut import Receipt
from dataplane.flows.streams import CutStreams
from dataplane.state import INBOUND_PORT, HostState
from dataplane.tables import TAG_MASK

TCP, ICMP = "tcp", "icmp"


class _Cut(NamedTuple):
    """All of one kind between the same two, to the same port."""

    kind: str  # in the singular
    caller: IPv4Address
    tag: int  # the caller's
    target: IPv4Address
    protocol: str
    port: int


def cut_lines(receipt: Receipt, state: HostState, tags: Mapping[AppName, int]) -> tuple[str, ...]:
    """`2 streams of acme/shop/web (10.255.1.2) to acme/shop/api (10.255.1.3) tcp/8080`, the most first."""
    counts = Counter[_Cut]()
    for streams in receipt.streams:
        counts[_of_streams(streams)] += streams.count
    counts.update(_of_flow(flow, state) for flow in receipt.flows)
    apps = _named({each.tag for each in counts} | {each.tag for each in state.workloads.values()}, tags) if counts else {}
    return tuple(
        _line(each, count, state, apps) for each, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    )


def _of_streams(found: CutStreams) -> _Cut:
    return _Cut("stream", found.caller, found.tag, found.target, TCP, found.port)


def _of_flow(flow: Flow, state: HostState) -> _Cut:
    caller = state.workloads.get(flow.source)
    tag = caller.tag if caller else flow.mark & TAG_MASK
    protocol = PROTOCOLS.get(flow.protocol, str(flow.protocol))
    kind = (
        "tunnel" if (protocol, flow.reply_source_port) == (TCP, INBOUND_PORT) else "connection" if protocol == TCP else "flow"
    )
    return _Cut(kind, flow.source, tag, flow.reply_source, protocol, flow.reply_source_port)


def _named(wanted: set[int], tags: Mapping[AppName, int]) -> Mapping[int, AppName]:
    return {tag: app for app, tag in tags.items() if tag in wanted}


def _line(cut: _Cut, count: int, state: HostState, apps: Mapping[int, AppName]) -> str:
    target = state.workloads.get(cut.target)
    ends = _end(cut.caller, apps.get(cut.tag)), _end(cut.target, apps.get(target.tag) if target else None)
    port = "echo" if cut.protocol == ICMP and not cut.port else cut.port
    return f"{count} {cut.kind}{'' if count == 1 else 's'} of {ends[0]} to {ends[1]} {cut.protocol}/{port}"


def _end(address: IPv4Address, app: AppName | None) -> str:
    return str(address) if app is None else f"{app} ({address})"
