"""Which flows of UDP are in use. UDP has no end: a flow is in use until nothing of it has passed for some seconds.

Conntrack forgets a flow some time after its last packet, and says how much of that is left: so it also says how long the flow
has been silent, without being asked twice. A flow that both ends have used for a while lives longer than one that has just
begun, and has its own mark.
"""

import socket
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address
from typing import NamedTuple

from dataplane.flows.conntrack import Flow
from host import sysctl

QUIET = 5  # seconds of silence after which a flow is over
ASSURED = 4  # of a flow's status: it lives as long as a stream
NEW_LIFE, STREAM_LIFE = "net/netfilter/nf_conntrack_udp_timeout", "net/netfilter/nf_conntrack_udp_timeout_stream"


class Lives(NamedTuple):
    """Seconds that the kernel keeps a silent flow of UDP: one that has begun, and one that both ends have used for a while."""

    new: int
    stream: int


def lives() -> Lives:
    """Those of the namespace that the calling thread is in."""
    found = sysctl.read((NEW_LIFE, STREAM_LIFE))
    return Lives(int(found.get(NEW_LIFE, 30)), int(found.get(STREAM_LIFE, 120)))


def flows_in_use(
    flows: Iterable[Flow], addresses: Collection[IPv4Address], *, resolver: IPv4Address, lives: Lives
) -> dict[IPv4Address, int]:
    """How many each of `addresses` has, as the one that was called or the one that calls. Questions for names do not count."""
    found = dict.fromkeys(addresses, 0)
    for flow in flows:
        if flow.protocol != socket.IPPROTO_UDP or flow.destination == resolver or _silence(flow, lives) >= QUIET:
            continue
        for address in {flow.source, flow.reply_source} & found.keys():
            found[address] += 1
    return found


def _silence(flow: Flow, lives: Lives) -> int:
    return (lives.stream if flow.status & ASSURED else lives.new) - flow.seconds_left
