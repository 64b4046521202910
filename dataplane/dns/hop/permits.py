"""The hop's way to the agent: may a container ask for a name, and may it have these addresses. One line of JSON for each
question and each answer, over a unix socket.
"""

import asyncio
import itertools
import json
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from dataplane.dns.hop.messages import Addresses

AGAIN: Final = 0.1  # seconds between attempts to reach the agent
PATIENCE: Final = 3.0  # seconds for an answer


class AgentAway(OSError):
    """Nothing answers at its socket."""


@dataclass(frozen=True, slots=True)
class HopRequest:
    """A container asks for a name; with `addresses` the name stands for these, for so many seconds."""

    number: int
    client: IPv4Address
    name: str
    addresses: Addresses = ()
    seconds: int = 0

    @property
    def line(self) -> bytes:
        """As it goes over the socket."""
        words = [self.number, str(self.client), self.name, [str(each) for each in self.addresses], self.seconds]
        return json.dumps(words).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> "HopRequest":
        """Raises ValueError."""
        match json.loads(line):
            case [int(number), str(client), str(name), list(addresses), int(seconds)]:
                found = tuple(IPv4Address(str(each)) for each in addresses)
                return cls(number, IPv4Address(client), name, found, seconds)
        raise ValueError("not five values")


@dataclass(frozen=True, slots=True)
class HopReply:
    """Whether it may ask, and which of the addresses are open to it now."""

    number: int
    permitted: bool
    addresses: Addresses = ()

    @property
    def line(self) -> bytes:
        """As it goes over the socket."""
        return json.dumps([self.number, self.permitted, [str(each) for each in self.addresses]]).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> "HopReply":
        """Raises ValueError."""
        match json.loads(line):
            case [int(number), bool(permitted), list(addresses)]:
                return cls(number, permitted, tuple(IPv4Address(str(each)) for each in addresses))
        raise ValueError("not three values")


class Permits:
    """Asks for them; one per hop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count(1)
        self._writer: asyncio.StreamWriter | None = None
        self._awaited: dict[int, asyncio.Future[HopReply]] = {}
        self._tried = asyncio.Event()

    async def tried(self) -> None:
        """Return when it is connected, or has found the agent away."""
        await self._tried.wait()

    async def may_ask(self, client: IPv4Address, name: str) -> bool:
        """Raises AgentAway."""
        return (await self._ask(HopRequest(next(self._numbers), client, name))).permitted

    async def opened(self, client: IPv4Address, name: str, addresses: Addresses, *, seconds: int) -> Addresses:
        """Those that the container may reach by now. Raises AgentAway."""
        return (await self._ask(HopRequest(next(self._numbers), client, name, addresses, seconds))).addresses

    async def run(self) -> None:
        """Be connected, for ever. Ends only by cancellation."""
        while True:
            with suppress(OSError):
                reader, self._writer = await asyncio.open_unix_connection(self._path)
                self._tried.set()
                await self._read(reader)
            self._tried.set()
            self._lose()
            await asyncio.sleep(AGAIN)

    async def _ask(self, request: HopRequest) -> HopReply:
        if self._writer is None:
            raise AgentAway("not connected")
        awaited: asyncio.Future[HopReply] = asyncio.get_running_loop().create_future()
        self._awaited[request.number] = awaited
        try:
            self._writer.write(request.line)
            async with asyncio.timeout(PATIENCE):
                found = await awaited
        except TimeoutError as error:
            raise AgentAway("it does not answer") from error
        finally:
            self._awaited.pop(request.number, None)
        return found

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Until it closes, or says what cannot be understood."""
        with suppress(ValueError):  # a line that is too long is one, too
            while line := await reader.readline():
                reply = HopReply.of(line)
                awaited = self._awaited.get(reply.number)
                if awaited is not None and not awaited.done():
                    awaited.set_result(reply)

    def _lose(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for awaited in self._awaited.values():
            if not awaited.done():
                awaited.set_exception(AgentAway("it has closed"))
