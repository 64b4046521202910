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
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import dns.rcode

from dataplane.dns.hop import messages
from dataplane.dns.hop.messages import FoundAddresses, HopQuestion
from dataplane.dns.hop.name_servers import FAILED, NameServers
from dataplane.dns.hop.permits import AgentAway, Permits
from dataplane.dns.hop.quota import Quota
from dataplane.known_names import LEAST

KEPT: Final = 20_000  # answers, for when the agent is away
WAITING: Final = 2_000  # questions that are worked on; dnsmasq lets half as many wait
IDLE: Final = 10.0  # seconds for which a connection may say nothing
UNKNOWN: Final = FoundAddresses(code=dns.rcode.NXDOMAIN)
NOTHING: Final = FoundAddresses()


class HopService:
    """Answers single questions."""

    def __init__(self, servers: NameServers, permits: Permits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._servers, self._permits, self._clock = servers, permits, clock
        self._quota = Quota(clock=clock)
        self._opened: OrderedDict[tuple[IPv4Address, str], tuple[FoundAddresses, float]] = OrderedDict()

    def is_too_much(self, wire: bytes) -> bool:
        """Whether a container asks more than one may. It is to hear so at once: dnsmasq lets few questions wait, of all."""
        client = messages.client_of(wire)
        return client is not None and not self._quota.takes(client)

    async def answer(self, wire: bytes, *, datagram: bool) -> bytes | None:
        """None where there is to be no answer."""
        question = messages.question_of(wire)
        if question is None:
            return None
        if question.client is None:
            return messages.answer(question, UNKNOWN, datagram=datagram)
        try:
            found = await self._found(question, question.client)
        except AgentAway:
            found = self._open_still(question, question.client)
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
        self._opened[client, name] = found, self._clock() + max(found.seconds, LEAST)
        self._opened.move_to_end((client, name))
        if len(self._opened) > KEPT:
            self._opened.popitem(last=False)
        return found

    def _open_still(self, question: HopQuestion, client: IPv4Address) -> FoundAddresses:
        found, end = self._opened.get((client, question.name), (FAILED, 0.0))
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
        if self._transport is not None and self._service.is_too_much(data):
            self._transport.sendto(messages.failure(data), addr)
        elif self._waiting < WAITING:
            self._waiting += 1
            self._tasks.create_task(self._answer(data, addr), name="datagram")

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            found = await self._service.answer(data, datagram=True)
            if found is not None and self._transport is not None:
                self._transport.sendto(found, addr)
        except Exception as error:  # of one message, however it is made: the others are answered
            print(f"a question came to nothing: {error!r}", file=sys.stderr, flush=True)
        finally:
            self._waiting -= 1


async def serve(datagrams: socket.socket, connections: socket.socket, *, agent: Path, servers: Path) -> None:
    """For ever, on sockets that are bound. Ends only by cancellation."""
    async with asyncio.TaskGroup() as tasks:
        permits = Permits(agent)
        service = HopService(NameServers(servers, tasks=tasks, clock=time.monotonic), permits)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Datagrams(service, tasks), sock=datagrams)

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                await _answer_all(service, reader, writer)
            writer.close()

        await asyncio.start_server(converse, sock=connections)
        await permits.run()


async def _answer_all(service: HopService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        async with asyncio.timeout(IDLE):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            wire = await reader.readexactly(length)
        found = messages.failure(wire) if service.is_too_much(wire) else await service.answer(wire, datagram=False)
        if found is None:
            return
        writer.write(struct.pack("!H", len(found)) + found)
        await writer.drain()
