"""Asking the name servers of the outside for the addresses of a name: each question from a socket of its own, whose port the
kernel chooses, with a number of its own. What comes from elsewhere, or answers another question, is passed over.

A name that many ask for at once is asked for once: several questions that wait would be as many that a forged answer may hit.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from dataplane.dns.hop.kept import KeptAnswers
from dataplane.dns.hop.messages import FoundAddresses, accepted, addresses_in, query_for

PATIENCE: Final = 1.5  # seconds for one server
ROUNDS: Final = 2
LARGEST: Final = 65_535
LINE: Final = "server="
FAILED: Final = FoundAddresses(code=dns.rcode.SERVFAIL)
Server = tuple[IPv4Address | IPv6Address, int]


class NameServers:
    """Those of a file, as dnsmasq would read it; `clock` is in seconds and never jumps."""

    def __init__(self, file: Path, *, tasks: asyncio.TaskGroup, clock: Callable[[], float]) -> None:
        self._file, self._tasks, self._clock = file, tasks, clock
        self._mark: tuple[int, ...] = ()
        self._servers: tuple[Server, ...] = ()
        self._asked: dict[str, asyncio.Task[FoundAddresses]] = {}
        self._kept = KeptAnswers[str]()

    async def addresses(self, name: str) -> FoundAddresses:
        """What a name stands for, for as long as that holds from now on; an error where no server says."""
        known, end = self._kept.get(name) or (FAILED, 0.0)
        left = int(end - self._clock())
        if left > 0:
            return FoundAddresses(known.addresses, left)
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = self._tasks.create_task(self._look_up(name), name="question")
            task.add_done_callback(lambda _: self._asked.pop(name, None))
        return await asyncio.shield(task)

    async def _look_up(self, name: str) -> FoundAddresses:
        try:
            query = query_for(name)
        except dns.exception.DNSException:
            return FAILED
        for server in self._all() * ROUNDS:
            try:
                async with asyncio.timeout(PATIENCE):
                    found = addresses_in(await _asked_of(server, query), query)
            except (OSError, ValueError):  # TimeoutError is one; the other is an answer that means nothing
                continue
            if found.code != dns.rcode.SERVFAIL:
                self._keep(name, found)
                return found
        return FAILED

    def _keep(self, name: str, found: FoundAddresses) -> None:
        if found.addresses and found.seconds:
            self._kept.put(name, found, end=self._clock() + found.seconds)

    def _all(self) -> tuple[Server, ...]:
        try:
            seen = self._file.stat()
            mark = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
            if mark != self._mark:
                self._servers, self._mark = servers_in(self._file.read_text()), mark
        except OSError:
            pass  # those of before
        return self._servers


def servers_in(text: str) -> tuple[Server, ...]:
    """Those of lines `server=ADDRESS#PORT`. Pure."""
    words = (line.removeprefix(LINE).partition("#") for line in text.splitlines() if line.startswith(LINE))
    return tuple((ip_address(address), int(port or 53)) for address, _, port in words)


async def _asked_of(server: Server, query: dns.message.QueryMessage) -> dns.message.Message:
    """Raises OSError."""
    found = await _over_udp(server, query)
    return await _over_tcp(server, query) if found.flags & dns.flags.TC else found


async def _over_udp(server: Server, query: dns.message.QueryMessage) -> dns.message.Message:
    address, port = server
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
        asking.connect((str(address), port))  # the kernel takes answers from there alone
        asking.send(query.to_wire())
        while True:
            found = accepted(await asyncio.get_running_loop().sock_recv(asking, LARGEST), query)
            if found is not None:
                return found


async def _over_tcp(server: Server, query: dns.message.QueryMessage) -> dns.message.Message:
    address, port = server
    reader, writer = await asyncio.open_connection(str(address), port)
    try:
        wire = query.to_wire()
        writer.write(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        found = accepted(await reader.readexactly(length), query)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("it has closed") from error
    finally:
        writer.close()
    if found is None:
        raise ConnectionResetError("it has answered another question")
    return found
