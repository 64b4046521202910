"""What becomes of a question that dnsmasq does not answer itself: a container may ask for the names of its policies, for their
addresses alone, and hears of an address when it can reach it.

While the agent is away a name that a container has asked for before keeps the addresses that are open to it, for as long as
they are; all else is an error, so that it is asked for again.
"""

import asyncio
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import dns.rcode

from dataplane.dns.hop import messages
from dataplane.dns.hop.kept import KeptAnswers
from dataplane.dns.hop.messages import FoundAddresses, HopQuestion
from dataplane.dns.hop.name_servers import FAILED, NameServers
from dataplane.dns.hop.permits import AgentAway, Permits
from dataplane.dns.hop.quota import Quota
from dataplane.dns.hop.refusals import FAILED as FAILURE
from dataplane.dns.hop.refusals import refusal
from dataplane.sets.known_names import LEAST

WAITING: Final = 2_000  # questions that are worked on; dnsmasq lets half as many wait
AT_ONCE: Final = 100  # of one container: names that no server answers are waited for, and would soon be all that may wait
IDLE: Final = 10.0  # seconds for which a connection may say nothing
UNKNOWN: Final = FoundAddresses(code=dns.rcode.NXDOMAIN)
NOTHING: Final = FoundAddresses()


class HopService:
    """Answers single questions."""

    def __init__(self, servers: NameServers, permits: Permits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._servers, self._permits, self._clock = servers, permits, clock
        self._quota = Quota(clock=clock)
        self._at_once = Counter[IPv4Address]()
        self._opened = KeptAnswers[tuple[IPv4Address, str]]()  # for when the agent is away

    def is_too_much(self, wire: bytes) -> bool:
        """Whether a container asks more than one may. It is to hear so at once: dnsmasq lets few questions wait, of all."""
        client = messages.client_of(wire)
        return client is not None and not self._quota.takes(client)

    async def answer(self, wire: bytes, *, datagram: bool) -> bytes:
        """An error for what cannot be read, and for what a container asks while so many of its questions wait; b"" where there
        is nothing to be answered.
        """
        question = messages.question_of(wire)
        if question is None:
            return refusal(wire, FAILURE)
        if question.client is None:
            return messages.answer(question, UNKNOWN, datagram=datagram)
        if self._at_once[question.client] >= AT_ONCE:
            return refusal(wire, FAILURE)
        self._at_once[question.client] += 1
        try:
            found = await self._found(question, question.client)
        except AgentAway:
            found = self._open_still(question, question.client)
        finally:
            self._at_once[question.client] -= 1
            self._at_once += Counter()  # without those that wait for nothing
        return messages.answer(question, found, datagram=datagram)

    async def _found(self, question: HopQuestion, client: IPv4Address) -> FoundAddresses:
        if not await self._permits.may_ask(client, question.name):
            return UNKNOWN
        if not question.for_addresses:
            return NOTHING
        found = await self._servers.addresses(question.name)
        if not found.addresses:
            return found
        opened = await self._permits.opened(client, question.name, found.addresses, seconds=found.seconds)
        return self._keep(client, question.name, FoundAddresses(opened, found.seconds))

    def _keep(self, client: IPv4Address, name: str, found: FoundAddresses) -> FoundAddresses:
        self._opened.put((client, name), found, end=self._clock() + max(found.seconds, LEAST))
        return found

    def _open_still(self, question: HopQuestion, client: IPv4Address) -> FoundAddresses:
        found, end = self._opened.get((client, question.name)) or (FAILED, 0.0)
        left = int(end - self._clock())
        if left <= 0:
            return FAILED
        return FoundAddresses(found.addresses, min(left, found.seconds)) if question.for_addresses else NOTHING


class _Datagrams(asyncio.DatagramProtocol):
    """Each is a task of its own."""

    def __init__(self, service: HopService, tasks: asyncio.TaskGroup) -> None:
        self._service, self._tasks = service, tasks
        self._waiting = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._service.is_too_much(data) or self._waiting >= WAITING:
            self._send(refusal(data, FAILURE), addr)
        else:
            self._waiting += 1
            self._tasks.create_task(self._answer(data, addr), name="datagram")

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            self._send(await self._service.answer(data, datagram=True), addr)
        except Exception as error:  # of one message, however it is made: the others are answered
            print(f"a question came to nothing: {error!r}", file=sys.stderr, flush=True)
            self._send(refusal(data, FAILURE), addr)
        finally:
            self._waiting -= 1

    def _send(self, wire: bytes, addr: tuple[str, int]) -> None:
        if wire and self._transport is not None:
            self._transport.sendto(wire, addr)


async def serve(datagrams: socket.socket, connections: socket.socket, *, agent: Path, servers: Path) -> None:
    """For ever, on sockets that are bound. Ends only by cancellation."""
    async with asyncio.TaskGroup() as tasks:
        permits = Permits(agent)
        tasks.create_task(permits.run(), name="permits")
        await permits.tried()  # what has come before waits, and is not told that the agent is away
        service = HopService(NameServers(servers, tasks=tasks, clock=time.monotonic), permits)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Datagrams(service, tasks), sock=datagrams)

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                await _answer_all(service, reader, writer)
            writer.close()

        await asyncio.start_server(converse, sock=connections)


async def _answer_all(service: HopService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        async with asyncio.timeout(IDLE):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            wire = await reader.readexactly(length)
        found = refusal(wire, FAILURE) if service.is_too_much(wire) else await service.answer(wire, datagram=False)
        if not found:
            return
        writer.write(struct.pack("!H", len(found)) + found)
        await writer.drain()
