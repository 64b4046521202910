"""From the kernel's flows to those that users know: whose the ends are, what allows it, how far it is."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from agent.insight.flows.live_flow import CLOSED, LiveFlow
from agent.insight.flows.rights_in_force import NONE, Right, RightsInForce
from agent.insight.refusals.tried_calls import TriedCalls, TriedWay
from agent.insight.whose import Whose
from agent.model.names import AppName
from agent.model.policy import Protocol
from agent.policy.parties import Party
from dataplane.flows.conntrack import CLOSE, LAST_ACK, PROTOCOLS, TIME_WAIT, Flow
from dataplane.flows.flow_table import CountedFlow
from dataplane.flows.judge import DESTINATION_TRANSLATED, SOURCE_TRANSLATED
from dataplane.flows.streams import CutStreams
from dataplane.flows.tunnel_table import StreamEnds, is_tunnel
from dataplane.state import HostState
from dataplane.tables import TAG_MASK
from dataplane.tunnel_probe import is_probe

ANSWERED: Final = 1 << 1  # IPS_SEEN_REPLY
ESTABLISHED: Final = 3
OVER: Final = (LAST_ACK, TIME_WAIT, CLOSE)
BY_SERVICE, BY_HOST = Right(origin="host_services"), Right(origin="this host")
BY_EGRESS, BY_INGRESS = Right(origin="egress.default"), Right(origin="ingress.default")
WORDS: Final = {each.value: each for each in Protocol}


@dataclass(frozen=True, slots=True)
class FlowPlace:
    """Where flows are: the overlay, this cell's part of it, what is in force here now, None before the first turn."""

    overlay: IPv4Network
    subnet: IPv4Network
    state: Callable[[], HostState | None]


class NamedFlows:
    """One per agent. `now` is in seconds since 1970."""

    def __init__(
        self, place: FlowPlace, whose: Whose, rights: RightsInForce, *, tried: TriedCalls, now: Callable[[], float]
    ) -> None:
        self._place = place
        self._whose = whose
        self._rights = rights
        self._tried = tried
        self._now = now

    async def refresh(self) -> None:
        """Go by tags and policies as they are now."""
        await self._whose.refresh()
        await self._rights.refresh()

    async def named(self, counted: CountedFlow) -> LiveFlow | None:
        """As of the last `refresh`. None for what is no flow of an app's, but a tunnel, in which those are."""
        flow = counted.flow
        if not self._is_apps(flow):
            return None
        protocol = PROTOCOLS.get(flow.protocol, str(flow.protocol))
        source, to = self._source(flow), self._whose.at(flow.reply_source) if self._inside(flow.reply_source) else None
        port = 0 if flow.protocol == socket.IPPROTO_ICMP else flow.reply_source_port
        right = await self._right(flow, source, to, protocol=protocol, port=port)
        return LiveFlow(
            f"{flow.id:08x}", str(source or flow.source), str(to or flow.reply_source),
            str(flow.source), 0 if flow.protocol == socket.IPPROTO_ICMP else flow.source_port, str(flow.reply_source),
            protocol, port, state_of(flow), right.policy, right.origin, counted.sent, counted.received,
            self._age(counted), audit=right.audit,
            tried=self._tried.is_of(TriedWay(flow.source, flow.reply_source, port), flow.source_port),
        )  # fmt: skip

    def _age(self, counted: CountedFlow) -> int | None:
        return None if counted.began is None else max(int(self._now() - counted.began), 0)

    def name_of(self, address: IPv4Address) -> str:
        """Its app with the address; the address alone where it is no app's."""
        app = self._whose.at(address)
        return str(address) if app is None else f"{app} ({address})"

    async def stream(self, counted: CountedFlow, ends: StreamEnds) -> LiveFlow:
        """One in a tunnel. As of the last `refresh`."""
        flow, source, to = counted.flow, self._whose.at(ends.source), self._whose.at(ends.to)
        right = await self._asked((source, to), Protocol.TCP, ends.port)
        return LiveFlow(
            f"{flow.id:08x}", str(source or ends.source), str(to or ends.to), str(ends.source), flow.source_port, str(ends.to),
            "tcp", ends.port, state_of(flow), right.policy, right.origin, counted.sent, counted.received, self._age(counted),
            tunnel=True, audit=right.audit,
        )  # fmt: skip

    def cut_stream(self, cut: CutStreams) -> LiveFlow:
        """Streams in a tunnel that were cut."""
        source = (self._whose.with_tag(cut.tag) if cut.tag else None) or self._whose.at(cut.caller)
        to = self._whose.at(cut.target)
        ends = str(source or cut.caller), str(to or cut.target)
        return LiveFlow("", *ends, str(cut.caller), 0, str(cut.target), "tcp", cut.port, CLOSED, "", "", tunnel=True)

    async def _right(self, flow: Flow, source: AppName | None, to: AppName | None, *, protocol: str, port: int) -> Right:
        """What allows it. The host's own calls, and those of its services, are no policy's."""
        word, state = WORDS.get(protocol), self._place.state()
        ends = source or self._outside(flow.source), to or self._outside(flow.reply_source)
        if word is None or None in ends:
            return NONE
        if source is None and not flow.status & DESTINATION_TRANSLATED:
            return BY_HOST
        if to is None and not flow.status & SOURCE_TRANSLATED:
            return BY_SERVICE
        found = await self._asked(ends, word, port)
        if found is NONE and state is not None and (source is None or to is None):
            allowed = state.ingress_allowed if source is None else state.egress_allowed
            return (BY_INGRESS if source is None else BY_EGRESS) if allowed else NONE
        return found

    async def _asked(self, ends: tuple[Party | None, Party | None], protocol: Protocol, port: int) -> Right:
        source, to = ends
        return NONE if source is None or to is None else await self._rights.right(source, to, protocol, port)

    def _is_apps(self, flow: Flow) -> bool:
        """The network has flows that concern no container, such as what cells ask each other; in a tunnel are others' flows."""
        ends = self._inside(flow.source), self._inside(flow.reply_source)
        state = self._place.state()
        asks = state is not None and state.resolver is not None and flow.destination == state.resolver.address
        asks_tunnel = all(ends) and is_probe(
            flow.source, flow.reply_source, flow.reply_source_port, cell_prefix=self._place.subnet.prefixlen
        )
        return any(ends) and not (is_tunnel(flow) and ends[1]) and not asks and not asks_tunnel

    def _source(self, flow: Flow) -> AppName | None:
        """Of another cell's container by the tag that came along."""
        if not self._inside(flow.source):
            return None
        tag = 0 if flow.source in self._place.subnet else flow.mark & TAG_MASK
        return (self._whose.with_tag(tag) if tag else None) or self._whose.at(flow.source)

    def _inside(self, address: IPv4Address) -> bool:
        return address in self._place.overlay

    def _outside(self, address: IPv4Address) -> IPv4Address | None:
        return None if self._inside(address) else address


def state_of(flow: Flow) -> str:
    """In the word that users see. Of what has no connections only whether it was answered is known."""
    if flow.protocol != socket.IPPROTO_TCP:
        return "open" if flow.status & ANSWERED else "unanswered"
    if flow.tcp_state in OVER:
        return CLOSED
    return "opening" if flow.tcp_state < ESTABLISHED else "open" if flow.tcp_state == ESTABLISHED else "closing"
