"""The streams that come out of tunnels: each is a connection of Envoy's to the app, inside the container's namespace.

The host's conntrack knows a tunnel and none of its streams, so they are looked for where they end: Envoy's sockets there have
the caller's address, and a mark that tells them from all others. A stream of two containers of this cell is ended at its caller
too, and there first: no reset crosses a tunnel, and a caller on another cell sees its connection come to a clean end.
"""

import socket
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address

from dataplane.flows import sockdiag
from dataplane.flows.inside import inside, inside_each
from dataplane.flows.sockdiag import Ends, Socket
from dataplane.state import OUTBOUND_PORT, Workload
from dataplane.tables import TUNNEL_MARK
from host.errors import HostRefused
from host.netlink.messages import SocketState
from host.netlink.socket import NetlinkSocket

LOOPBACK = IPv4Address("127.0.0.1")  # where Envoy takes a container's own calls
# Envoy has 4,000 to a container (dataplane/envoy/limits.py). Root inside can give sockets of its own the mark, without end: to
# destroy each takes a tenth of a millisecond, in which no other change is made
MOST = 5_000
EnvoySockets = Callable[[], frozenset[int] | None]
"""Their inodes, None where they are not known."""


def unknown_sockets() -> frozenset[int] | None:
    """Of an Envoy of which nothing is known."""
    return None


@dataclass(frozen=True, slots=True)
class TunnelStream:
    """One connection of `caller` to `port` of the container at `target`, by Envoy's `socket` there."""

    caller: IPv4Address
    target: IPv4Address
    port: int
    socket: Socket = field(repr=False)


@dataclass(frozen=True, slots=True, order=True)
class CutStreams:
    """So many (`count`) streams of one caller to one port; `tag` is the caller's, 0 where it has none any more."""

    caller: IPv4Address
    tag: int
    target: IPv4Address
    port: int
    count: int


def streams_to(workloads: Collection[Workload], *, envoy: EnvoySockets = unknown_sockets) -> tuple[TunnelStream, ...]:
    """All that end in these containers. Where they are more than Envoy can have, those that it has. Raises HostRefused."""
    return tuple(
        TunnelStream(each.local, workload.address, each.remote_port, each)
        for workload, sockets in inside_each(workloads, partial(_of_envoy, envoy))
        for each in sockets
        if isinstance(each.local, IPv4Address) and each.state is not SocketState.TIME_WAIT
    )


def _of_envoy(envoy: EnvoySockets, workload: Workload) -> Sequence[Socket]:
    marked = sockdiag.tcp_sockets(remote=workload.address, mark=TUNNEL_MARK, families=(socket.AF_INET,))
    own = envoy() if len(marked) > MOST else None
    return marked if own is None else [each for each in marked if each.inode in own]


def counted(streams: Mapping[TunnelStream, int]) -> tuple[CutStreams, ...]:
    """What a receipt says of these, given with their callers' tags."""
    groups = Counter((each.caller, tag, each.target, each.port) for each, tag in streams.items())
    return tuple(sorted(CutStreams(*group, count) for group, count in groups.items()))


def reset(streams: Collection[TunnelStream], workloads: Mapping[IPv4Address, Workload]) -> None:
    """End exactly these, and what their callers on this cell have open to the same ports.

    Raises HostRefused, after it has tried all.
    """
    refused: list[HostRefused] = []
    for target in sorted({each.target for each in streams} & workloads.keys()):
        ending = [each for each in streams if each.target == target]
        try:
            _reset_at(workloads[target], ending, workloads)
        except HostRefused as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _reset_at(target: Workload, streams: Sequence[TunnelStream], workloads: Mapping[IPv4Address, Workload]) -> None:
    """The callers' ends, and at once after them the others: an end that Envoy comes to close before is closed cleanly."""
    with ExitStack() as stack:
        doomed: list[tuple[NetlinkSocket, Sequence[Socket]]] = []
        for caller in sorted({each.caller for each in streams} & workloads.keys()):
            ports = frozenset(each.port for each in streams if each.caller == caller)
            if found := inside(workloads[caller], partial(_calls, caller, target.address, ports)):
                doomed.append((stack.enter_context(found[0]), found[1]))
        if over := inside(target, sockdiag.opened):
            doomed.append((stack.enter_context(over), [each.socket for each in streams]))
        for link, sockets in doomed:
            sockdiag.destroy(sockets, over=link)


def _calls(caller: IPv4Address, target: IPv4Address, ports: Collection[int]) -> tuple[NetlinkSocket, Sequence[Socket]]:
    """Envoy's ends of the connections to these ports that the redirect has brought to it."""
    meant = [each for each in sockdiag.tcp_sockets(local=caller, remote=target) if each.remote_port in ports]
    ends = [Ends(LOOPBACK, OUTBOUND_PORT, caller, each.local_port) for each in meant]
    return sockdiag.opened(), [each for each in sockdiag.find(ends) if each is not None]
