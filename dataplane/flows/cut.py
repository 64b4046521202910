"""Ends live connections that nothing permits any longer. Runs after the rule is out, and after Envoy has acknowledged that some
callers may less; `link` is open in the host's namespace.

Sockets first, conntrack entries after them: the reset that a destroyed socket sends has to pass our own rules, and only the
entry lets it. The entry is retired before, so that no new connection gets through it in between. In the end nothing of the flow
is left, and the rules answer any later packet without a SYN with a reset. Streams in tunnels before both: a tunnel that is
itself cut takes all of its own along, and would leave those of a caller on this cell without a reset.
"""

import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from dataplane.flows import conntrack, judge, sockdiag, streams
from dataplane.flows.conntrack import Flow
from dataplane.flows.inside import inside, inside_each
from dataplane.flows.judge import NO_VIEW, HostView
from dataplane.flows.places import Places
from dataplane.flows.sockdiag import Ends, Socket
from dataplane.flows.streams import CutStreams, TunnelStream
from dataplane.state import HostState, Workload
from dataplane.tables import EITHER_MARK, TUNNEL_MARK
from host.netlink.messages import SocketState
from host.netlink.socket import NetlinkSocket

Clock = Callable[[], float]
Workloads = Mapping[IPv4Address, Workload]


class SweepPhase(Enum):
    """Which looks of a sweep are taken now. Walking through the kernel's table takes 10 ms, however few flows there are."""

    FIRST = "first"  # what there is now
    LATER = "later"  # what became a flow after the first look


FEW = 16  # addresses whose own sockets are looked through first; for more, the whole table is read sooner than all of these
ROUNDS = 3  # looks at the whole table, at most


NO_STREAMS: Final[Mapping[TunnelStream, int]] = {}


class Forbidden(NamedTuple):
    """What a look has found; each stream with its caller's tag."""

    flows: tuple[Flow, ...]
    streams: Mapping[TunnelStream, int]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was cut, in which time (seconds of the caller's clock). Falsy when there was nothing to cut.

    Fewer sockets than TCP flows: theirs belong to no namespace that we know. More entries than flows: those of connections that
    had ended by themselves are deleted too.
    """

    flows: tuple[Flow, ...]
    sockets_destroyed: int
    entries_deleted: int
    started: float
    finished: float
    streams: tuple[CutStreams, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.flows or self.streams)

    @property
    def count(self) -> int:
        """How many connections: flows, and streams in tunnels."""
        return len(self.flows) + sum(each.count for each in self.streams)

    @property
    def seconds(self) -> float:
        """From the first look to the last cut."""
        return self.finished - self.started

    def followed_by(self, later: "Receipt") -> "Receipt":
        """Both as one. Looks that found nothing take no time: `finished` is when the last flow was cut."""
        return Receipt(
            flows=self.flows + later.flows,
            sockets_destroyed=self.sockets_destroyed + later.sockets_destroyed,
            entries_deleted=self.entries_deleted + later.entries_deleted,
            started=self.started,
            finished=later.finished if later else self.finished,
            streams=self.streams + later.streams,
        )


def sweep(
    state: HostState, places: Places, *, link: NetlinkSocket, clock: Clock, phase: SweepPhase, view: HostView = NO_VIEW
) -> Receipt:
    """Cut the flows at these places that `state` forbids.

    A SYN that had passed the old rules when they went may become a flow just after a look, so there are always two looks,
    and more until one finds nothing: after the phase FIRST the phase LATER is owed. Raises HostRefused.
    """
    addresses, departed = places.addresses, places.departed
    chosen = None if addresses is None else [state.workloads[each] for each in addresses if each in state.workloads]

    def in_table() -> Forbidden:
        if chosen is None or addresses is None:
            return judged(conntrack.flows(link))
        gone = (addresses | departed.keys()) - state.workloads.keys()
        return judged(conntrack.flows(link, to=[each.address for each in chosen], of=gone | places.leaving))

    def in_sockets() -> Forbidden:
        return judged(conntrack.answered(link, _connections(chosen or ())))

    def judged(flows: tuple[Flow, ...]) -> Forbidden:
        tunnels = judge.tunnels(flows, state, departed=departed)
        # a namespace that no tunnel leads to has no streams, and looking into all of them takes long
        ending = streams.streams_to([state.workloads[to] for to in sorted({to for _, to in tunnels})], envoy=view.envoy)
        return Forbidden(
            judge.forbidden(flows, state, departed=departed, view=view),
            judge.forbidden_streams(ending, state, known=tunnels),
        )

    first = [in_sockets, in_table] if chosen is not None and 0 < len(chosen) <= FEW else [in_table]
    match phase:
        case SweepPhase.FIRST:
            return _cut_all(first, state.workloads, link=link, clock=clock, at_least=len(first))
        case SweepPhase.LATER:
            return _cut_all([in_table] * ROUNDS, state.workloads, link=link, clock=clock)


def _cut_all(
    looks: Sequence[Callable[[], Forbidden]],
    workloads: Workloads,
    *,
    link: NetlinkSocket,
    clock: Clock,
    at_least: int = 1,
) -> Receipt:
    started = clock()
    whole = Receipt((), 0, 0, started, started)
    for number, look in enumerate(looks, start=1):
        found = look()
        if number >= at_least and not any(found):
            break
        whole = whole.followed_by(cut(found.flows, workloads, link=link, clock=clock, ending=found.streams))
    return whole


def cut(
    flows: Collection[Flow],
    workloads: Workloads,
    *,
    link: NetlinkSocket,
    clock: Clock,
    ending: Mapping[TunnelStream, int] = NO_STREAMS,
) -> Receipt:
    """End exactly these flows: reset both ends where the socket of one is found, then forget them. `ending` are streams in
    tunnels, with their callers' tags.

    `workloads` says whose namespaces to look in; one that is gone took its sockets along. Raises HostRefused, if sockets could
    not be destroyed after the entries were deleted all the same: then the rules reset the next packet.
    """
    started = clock()
    if not flows and not ending:
        return Receipt((), 0, 0, started, started)
    connections = [flow for flow in flows if flow.protocol == socket.IPPROTO_TCP]
    destroyed = deleted = 0
    try:
        streams.reset(ending, workloads)
    finally:
        if flows:
            try:
                conntrack.retire(link, connections)
                destroyed = _destroy(connections, workloads)
            finally:
                deleted = conntrack.delete(link, tuple(flows))
    return Receipt(
        tuple(flow for flow in flows if not flow.is_over), destroyed, deleted, started, clock(), streams.counted(ending)
    )


def _destroy(flows: Sequence[Flow], workloads: Workloads) -> int:
    """At the answering end; at the other where nothing is found (it is gone, or has namespaces of its own inside).

    Not at the other where the flow is over: its ports may be those of a newer connection there, which goes through a tunnel.
    """
    destroyed = 0
    for side in (_answering, _asking):
        if side is _asking:
            flows = [flow for flow in flows if not flow.is_over]
        missed: list[Flow] = []
        for workload, there in _by_workload(flows, side, workloads):
            connections = [side(flow) for flow in there]
            reset = inside(workload, partial(_reset, connections, workload.interface)) or ResetSockets(frozenset(), 0)
            destroyed += reset.destroyed
            missed += [flow for flow in there if side(flow) not in reset.found]
        flows = missed + [flow for flow in flows if side(flow).local not in workloads]
    return destroyed


class ResetSockets(NamedTuple):
    """The connections whose sockets were found, and how many sockets were still there when they were destroyed."""

    found: frozenset[Ends]
    destroyed: int


def _reset(connections: Sequence[Ends], interface: str) -> ResetSockets:
    sockets = dict(zip(connections, sockdiag.find(connections, interface=interface), strict=True))
    live = {
        ends: each
        for ends, each in sockets.items()
        if each is not None and each.state is not SocketState.TIME_WAIT and not _is_from_envoy(each)
    }
    return ResetSockets(frozenset(live), sockdiag.destroy(tuple(live.values())))


def _is_from_envoy(found: Socket) -> bool:
    """Whether Envoy has opened this connection, with the caller's address and a port of its own choice: it is no flow of the
    host's, though the caller may have had one from the same port. The app's socket has the mark of Envoy's.
    """
    return found.mark & EITHER_MARK == TUNNEL_MARK


def _answering(flow: Flow) -> Ends:
    return Ends(flow.reply_source, flow.reply_source_port, flow.reply_destination, flow.reply_destination_port)


def _asking(flow: Flow) -> Ends:
    return Ends(flow.source, flow.source_port, flow.destination, flow.destination_port)


def _by_workload(
    flows: Iterable[Flow], side: Callable[[Flow], Ends], workloads: Workloads
) -> Iterable[tuple[Workload, list[Flow]]]:
    groups: dict[IPv4Address, list[Flow]] = {}
    for flow in flows:
        groups.setdefault(side(flow).local, []).append(flow)
    return [(workloads[address], there) for address, there in groups.items() if address in workloads]


def _connections(workloads: Collection[Workload]) -> list[Ends]:
    """What the sockets in these workloads' namespaces are connected to, in either direction."""
    return [
        Ends(each.local, each.local_port, each.remote, each.remote_port)
        for _, sockets in inside_each(workloads, lambda workload: sockdiag.tcp_sockets(local=workload.address))
        for each in sockets
        if isinstance(each.local, IPv4Address) and isinstance(each.remote, IPv4Address) and each.remote_port
    ]
