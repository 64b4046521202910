"""The streams in tunnels, as the conntrack of the containers' own namespaces knows them: there each is a connection between an
app and Envoy. The host's conntrack knows the tunnels alone.

Root inside can make its own namespace's table say what it likes, of calls to and from its own container.
"""

import socket
import time
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Final, NamedTuple

from dataplane.flows import flow_table
from dataplane.flows.conntrack import Flow
from dataplane.flows.event_filter import LOOPBACK
from dataplane.flows.flow_table import CountedFlow
from dataplane.flows.inside import inside_each
from dataplane.state import INBOUND_PORT, OUTBOUND_PORT, Workload
from dataplane.tables import TUNNEL_MARK
from host.netlink.messages import contents

CTA_TUPLE_ZONE: Final = 3
ZONE: Final = TUNNEL_MARK.to_bytes(2, "big")  # where what Envoy opens to an app is followed
LONGEST: Final = 1.0  # seconds after which no further container is entered


class StreamEnds(NamedTuple):
    """Of a stream: the app that has opened it, and the other one."""

    source: IPv4Address
    to: IPv4Address
    port: int


class StreamTable(NamedTuple):
    """What was found at each container; `whole` is false where some were not entered, or had more than a look reads."""

    streams: tuple[tuple[CountedFlow, StreamEnds], ...]
    whole: bool


def is_tunnel(flow: Flow) -> bool:
    """Whether this is one, by its port alone."""
    return flow.protocol == socket.IPPROTO_TCP and flow.reply_source_port == INBOUND_PORT


def ends_of(flow: Flow, at: IPv4Address, *, subnet: IPv4Network) -> StreamEnds | None:
    """What a connection in the namespace of the container at this address is, None for one that is no stream in a tunnel.

    A stream is one of the container that is called; of what leads to another cell, which is no part of `subnet`, of the caller.
    """
    if flow.protocol != socket.IPPROTO_TCP:
        return None
    if flow.destination == at and contents(flow.key).get(CTA_TUPLE_ZONE) == ZONE:
        return StreamEnds(flow.source, at, flow.destination_port)
    if (flow.reply_source, flow.reply_source_port) == (LOOPBACK, OUTBOUND_PORT) and flow.destination not in subnet:
        return StreamEnds(at, flow.destination, flow.destination_port)
    return None


def look(
    tunnels: Iterable[Flow], workloads: Collection[Workload], *, within: IPv4Network, subnet: IPv4Network,
    clock: Callable[[], float] = time.monotonic,
) -> StreamTable:  # fmt: skip
    """The streams in these tunnels, of containers of this cell, which are `workloads`. Raises HostRefused."""
    used = frozenset(end for each in tunnels for end in (each.source, each.reply_source))
    until, is_whole = clock() + LONGEST, True
    found: list[tuple[CountedFlow, StreamEnds]] = []

    def read(workload: Workload) -> None:
        nonlocal is_whole
        if clock() > until:
            is_whole = False
            return
        table = flow_table.look(within=within)
        is_whole &= table.whole
        ends = ((each, ends_of(each.flow, workload.address, subnet=subnet)) for each in table.flows)
        found.extend((each, stream) for each, stream in ends if stream is not None)

    inside_each([each for each in workloads if each.address in used], read)
    return StreamTable(tuple(found), is_whole)
