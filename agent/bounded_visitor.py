"""What a server on TCP can be made to hold: so many connections at once, each for so long."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

CONNECTIONS: Final = 32


class BoundedVisitor(asyncio.Protocol):
    """A connection before the server has it. `visitors` are those that the server has; `longest`: seconds of each."""

    def __init__(self, server: Callable[[], asyncio.Protocol], visitors: set[asyncio.Transport], *, longest: float) -> None:
        self._server, self._visitors, self._longest = server, visitors, longest

    def is_welcome(self, made: asyncio.Transport) -> bool:
        """Whether it may be one of those."""
        del made
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand it over, unless there are too many."""
        made = cast("asyncio.Transport", transport)
        self._visitors -= {each for each in self._visitors if each.is_closing()}
        if len(self._visitors) >= CONNECTIONS or not self.is_welcome(made):
            made.abort()
            return
        self._visitors.add(made)
        asyncio.get_running_loop().call_later(self._longest, made.abort)
        protocol = self._server()
        made.set_protocol(protocol)
        protocol.connection_made(made)
