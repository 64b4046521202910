"""What the hop asks the agent: may a container ask for this name, and may it have these addresses.

By the policies that are enforced, so that an app that hears of an address can reach it: the address is in the kernel's sets
before the answer leaves. What is never outside is none of a name's addresses, whatever its owner says.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from agent import log
from agent.complaint import Complaint, Complaints
from agent.errors import Conflict, HostRefused
from agent.model.status import Part, Problem
from dataplane.dns.hop.messages import MOST, Addresses
from dataplane.dns.hop.permits import HopReply, HopRequest
from dataplane.firewall.outside_matches import name_set
from dataplane.kernel import Kernel
from dataplane.sets.name_patterns import patterns_of
from dataplane.state import HostState
from dataplane.way_out import WayOut

PATIENCE = 5.0  # seconds for which a hop may be away until that is a problem
PAUSE = 1.0  # seconds between attempts to make the socket
EVERY = 10.0  # seconds between looks for flows: less than a name's addresses hold at least
NOT_FOUND = "the hosts that policies name are not found"


@dataclass(frozen=True, slots=True)
class HostsRow:
    """`wanted`: whether a policy of a container here names a host. `connected`: whether what asks the outside for such names
    does so; it only waits where none is wanted. `known`: names that stand for addresses.
    """

    wanted: bool
    connected: bool
    known: int


@dataclass(frozen=True, slots=True)
class AskedNamesFacts:
    """`applied` is what the kernel has now, `obstacle` is why nothing outside is asked whatever runs, `listening` makes the
    socket, `uid` is the hop's user. `keep` writes the known names anew where they have become long; `on_repair` hears of what
    another program had changed. `wanted_since` is when names came to be wanted.
    """

    applied: Callable[[], HostState | None]
    obstacle: Callable[[], Complaint | None]
    listening: Callable[[], AbstractContextManager[socket.socket]]
    uid: Callable[[], int]
    keep: Callable[[], None]
    on_repair: Callable[[str], None]
    wanted_since: Callable[[], float]
    clock: Callable[[], float]


class AskedNames(Part):
    """One per agent."""

    def __init__(self, kernel: Kernel, facts: AskedNamesFacts) -> None:
        self._kernel, self._facts = kernel, facts
        self._connected = 0
        self._away_since = facts.clock()
        self._judged_by: tuple[HostState, WayOut] | None = None
        self._log = log.get("dns")
        self._failure = Complaints(self._log, failed="names_not_opened", recovered="names_opened")
        self._silence = Complaints(self._log, failed="names_not_asked_for", recovered="names_asked_for")

    def problems(self) -> tuple[Problem, ...]:
        """That nothing asks the outside though policies name hosts there, and what the kernel refuses."""
        refused = tuple(Problem("dns", each.what, each.hint) for each in self._failure.standing.values())
        state = self._facts.applied()
        return refused if state is None or not wants_names(state) else (*self._unasked(), *refused)

    def _unasked(self) -> Iterator[Problem]:
        """Why no host is found that a policy names: the reason that an operator has to mend first."""
        obstacle = self._facts.obstacle()
        for each in self._silence.standing.values() if obstacle is None else (obstacle,):
            yield Problem("dns", f"{NOT_FOUND}: {each.what}", each.hint)
            return
        away_since = max(self._away_since, self._facts.wanted_since())
        if not self._connected and self._facts.clock() - away_since >= PATIENCE:
            hint = "its unit, or `cellnet up`, starts it again by itself: see its log (`journalctl -u cellnet-dns-hop`)"
            yield Problem("dns", f"{NOT_FOUND}: what asks the outside for names does not run", hint)

    async def rows(self) -> Mapping[str, object]:
        """`hosts`."""
        state = self._facts.applied()
        wanted = state is not None and wants_names(state)
        return {"hosts": HostsRow(wanted, bool(self._connected), len(self._kernel.known_names))}

    async def run(self) -> None:
        """Answer for ever. Ends only by cancellation."""
        while True:
            try:
                with self._facts.listening() as made:
                    self._silence.over()
                    server = await asyncio.start_unix_server(self._converse, sock=made)
                    async with server:
                        await server.serve_forever()
            except (HostRefused, Conflict) as error:  # that the hop has no user on this host is one
                self._silence.about(error)
            await asyncio.sleep(PAUSE)

    async def run_looks(self) -> None:
        """Keep what has flows, mend the sets, drop what is over: for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.look()
                self._failure.over()
            except HostRefused as error:
                self._failure.about(error)

    async def look(self) -> None:
        """Once. Raises HostRefused."""
        state, kernel = self._facts.applied(), self._kernel
        if state is None or not (wants_names(state) or len(kernel.known_names)):
            return
        reached = await asyncio.wrap_future(kernel.reached_outside(state))
        await asyncio.wrap_future(kernel.open_names(lambda sets: sets.renew(reached)))
        mended = await asyncio.wrap_future(kernel.open_names(lambda sets: sets.mend()))
        await asyncio.wrap_future(kernel.open_names(lambda _: self._facts.keep()))
        if mended:
            self._facts.on_repair(f"addresses of names {mended}")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            if _uid_of(writer) not in (0, self._facts.uid()):
                self._log.warning("a stranger at the socket of names", uid=_uid_of(writer))
                writer.close()
                return
            self._connected += 1
            try:
                while line := await reader.readline():
                    writer.write((await self.reply(HopRequest.of(line))).line)
                    await writer.drain()
            finally:
                self._connected -= 1
                self._away_since = self._facts.clock()
        writer.close()

    async def reply(self, request: HopRequest) -> HopReply:
        """The answer to one request; nothing is open where the kernel refuses."""
        state = self._facts.applied()
        into = () if state is None else _sets_of(state, request.client, request.name)
        if state is None or not into:
            return HopReply(request.number, permitted=False)
        if not request.addresses:
            return HopReply(request.number, permitted=True)
        judge = self._judge(state)
        outside = tuple(each for each in request.addresses[:MOST] if judge.is_outside(each))
        return HopReply(request.number, permitted=True, addresses=await self._opened(request, outside, into))

    async def _opened(self, request: HopRequest, addresses: Addresses, into: Collection[str]) -> Addresses:
        try:
            opening = self._kernel.open_names(
                lambda sets: sets.open(request.name, addresses, seconds=request.seconds, into=into)
            )
            return await asyncio.wrap_future(opening) if addresses else ()
        except HostRefused as error:
            self._failure.about(error)
            return ()

    def _judge(self, state: HostState) -> WayOut:
        if self._judged_by is None or self._judged_by[0] is not state:
            self._judged_by = state, WayOut(state)
        return self._judged_by[1]


def _sets_of(state: HostState, client: IPv4Address, name: str) -> tuple[str, ...]:
    """The sets that a container's rights have a name's addresses in."""
    workload = state.workloads.get(client)
    if workload is None:
        return ()
    return tuple(name_set(each.names) for each in workload.egress if each.names and patterns_of(each.names).matches(name))


def wants_names(state: HostState) -> bool:
    """Whether a right of a container here is one to names outside."""
    return not state.egress_allowed and any(right.names for each in state.workloads.values() for right in each.egress)


def _uid_of(writer: asyncio.StreamWriter) -> int:
    """The user at the other end, as the kernel knows it."""
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", found)
    return int(uid)
