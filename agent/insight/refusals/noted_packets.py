"""From packets that the kernel has refused to denials: whose they were, and why none of them passed.

A task of its own hears of them, so many at a time; what comes faster the kernel drops, and that is counted.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from agent.errors import HostRefused
from agent.insight.names_outside import NamesOf
from agent.insight.refusals.denied import WOULD, Pair, Reason
from agent.insight.refusals.untaken_tunnels import PolicyCheck, UntakenTunnels
from agent.insight.whose import Whose
from agent.model.names import AppName
from agent.model.policy import Protocol
from agent.model.status import Part, Problem
from dataplane.flows.conntrack import PROTOCOLS
from dataplane.netlink.notes import NotedPacket, Notes
from dataplane.state import INBOUND_PORT
from dataplane.tables import Note
from dataplane.tunnel_probe import is_probe

MESSAGES: Final = 16  # that are taken at once: 512 packets
REST: Final = 0.1  # seconds between: 5,000 packets a second
MOST_NAMES: Final = 4  # of one address that are told
AGAIN: Final = 10.0  # seconds until the kernel is asked again that has refused
REPORTED: Final = 1.0  # seconds after which Envoy has reported a call, or does not
REASONS: Final = {
    Note.LIMITED: Reason.LIMIT,
    Note.INVALID: Reason.INVALID,
    Note.FORGED: Reason.SPOOFED,
    Note.UNANSWERED: Reason.RESOLVER,
    Note.AUDITED: Reason.AUDIT,
}
IN_TUNNELS: Final = "in a tunnel: to which ports, its own cell knows"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What is asked: the overlay and this cell's part of it, which app has an address now, whose an address or a tag is or was,
    which policy lets one app reach another, whether TCP between containers comes in tunnels alone, and the names that an
    address outside stands for."""

    overlay: IPv4Network
    part: IPv4Network
    app_at: Callable[[IPv4Address], AppName | None]
    whose: Whose
    check: PolicyCheck
    is_strict: Callable[[], bool]
    names_of: NamesOf


class NotedPackets(Part):
    """`notes` is opened in the namespace of the agent."""

    def __init__(self, untaken: UntakenTunnels, where: Whereabouts, *, notes: Callable[[], Notes] = Notes) -> None:
        self._untaken, self._denied, self._tried = untaken, untaken.denied, untaken.tried
        self._where = where
        self._open = notes
        self._problem: HostRefused | None = None

    def problems(self) -> Iterator[Problem]:
        """Why nothing is heard."""
        if self._problem is not None:
            yield Problem("kernel", self._problem.what, self._problem.hint)

    async def run(self) -> None:
        """Hear and tell. Runs until cancelled."""
        while True:
            try:
                notes = self._open()
            except HostRefused as error:
                self._problem = error
                await asyncio.sleep(AGAIN)
                continue
            self._problem = None
            try:
                await self._follow(notes)
            finally:
                notes.close()

    async def _follow(self, notes: Notes) -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(notes.descriptor, heard.set)
        try:
            while True:
                await heard.wait()
                loop.remove_reader(notes.descriptor)  # or a flood would wake the loop without end
                packets, lost = notes.take(most=MESSAGES)
                self._denied.lost += lost
                for each in packets:
                    await self._tell(each)
                await asyncio.sleep(REST)
                heard.clear()
                loop.add_reader(notes.descriptor, heard.set)
        finally:
            loop.remove_reader(notes.descriptor)

    async def _tell(self, packet: NotedPacket) -> None:
        if self._is_probe(packet):
            return
        source, to = await self._source(packet), self._where.whose.at(packet.to)
        reason = REASONS.get(packet.note) or await self._reason(packet, source, to)
        protocol = PROTOCOLS.get(packet.protocol, str(packet.protocol))
        pair = Pair(str(source or packet.source), str(to or packet.to), protocol, packet.port, reason)
        if reason in (Reason.POLICY, Reason.NOBODY) and (packet.protocol, packet.port) == (socket.IPPROTO_TCP, INBOUND_PORT):
            # what Envoy knows of it may be on its way
            asyncio.get_running_loop().call_later(REPORTED, self._tell_tunnel, packet, pair._replace(port=0))
        else:
            tried, words = self._tried.has(packet.source, packet.source_port), WOULD if reason is Reason.AUDIT else ""
            self._denied.add(
                pair, source_address=str(packet.source), to_address=str(packet.to), words=words, tried=tried,
                names=self._where.names_of(packet.to)[:MOST_NAMES],
            )  # fmt: skip

    def _tell_tunnel(self, packet: NotedPacket, pair: Pair) -> None:
        """One that this cell has refused, unless its caller's Envoy, which knows the port, has reported the call here."""
        if not self._untaken.is_reported(packet.source, packet.to):
            self._denied.add(pair, source_address=str(packet.source), to_address=str(packet.to), words=IN_TUNNELS)

    def _is_probe(self, packet: NotedPacket) -> bool:
        """Whether another cell asks by it for the tunnel to this one: that it is refused is the answer."""
        if packet.leaves or not all(each in self._where.overlay for each in (packet.source, packet.to)):
            return False
        return is_probe(packet.source, packet.to, packet.port, cell_prefix=self._where.part.prefixlen)

    async def _reason(self, packet: NotedPacket, source: AppName | None, to: AppName | None) -> Reason:
        """What a chain of refusals at the end of the way means for this packet."""
        if not packet.leaves:
            return Reason.HOST
        if packet.to not in self._where.overlay:
            return Reason.EGRESS
        if packet.source not in self._where.overlay:
            return Reason.INGRESS
        if self._where.app_at(packet.to) is None:
            return Reason.NOBODY
        is_plain = packet.protocol == socket.IPPROTO_TCP and packet.port != INBOUND_PORT
        if to is None or source is None or not is_plain or not self._where.is_strict():
            return Reason.POLICY
        allowing = await self._where.check(source, to, Protocol.TCP, packet.port)
        return Reason.POLICY if allowing is None else Reason.STRICT

    async def _source(self, packet: NotedPacket) -> AppName | None:
        """By its tag, which it has even if its app has gone, else by its address. Nobody's where the address is forged."""
        if packet.note is Note.FORGED:
            return None
        whose = self._where.whose
        await whose.refresh()
        return whose.with_tag(packet.tag) or whose.at(packet.source)
