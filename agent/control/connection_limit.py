"""How many connections each user may have open, so that a reader cannot use up the agent's descriptors.

Between the listening socket and the HTTP server. It counts when a connection is made, since one that never asks anything
holds a descriptor too, and counts sockets that are open: one that is closing still is, while its reader does not read.
Root is not counted.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from agent.control import peer as peers
from agent.control.errors import refusal
from agent.model.peer import Peer

LIMIT = 64  # of 1024 descriptors, in the usual limits
REFUSED = refusal(503, "Unavailable", "you have too many open connections", hint="close some").text or ""


class ConnectionLimit:
    """Makes a protocol for each new connection: the server's own, or one that refuses."""

    def __init__(
        self, server: Callable[[], asyncio.Protocol], connected: dict[socket.socket, Peer], *, limit: int = LIMIT
    ) -> None:
        """`connected` gets the peer of each connection, as it was at its beginning."""
        self._server = server
        self._limit = limit
        self._connected = connected

    def __call__(self) -> asyncio.Protocol:
        """For loop.create_server."""
        return _NewConnection(self)

    def admit(self, transport: asyncio.Transport) -> None:
        """Hand a new connection over to the server, or refuse it."""
        connection = cast("socket.socket", transport.get_extra_info("socket"))
        for each in [each for each in self._connected if each.fileno() < 0]:
            del self._connected[each]
        peer = peers.peer_of(connection)
        if peer.uid != 0 and sum(each.uid == peer.uid for each in self._connected.values()) >= self._limit:
            transport.write(_response(REFUSED))
            transport.close()  # at once: to wait for the question would hold the descriptor
            return
        self._connected[connection] = peer
        protocol = self._server()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class _NewConnection(asyncio.Protocol):
    """A connection until it is handed over."""

    def __init__(self, limit: ConnectionLimit) -> None:
        self._limit = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer's user is known by now."""
        self._limit.admit(cast("asyncio.Transport", transport))


def _response(text: str) -> bytes:
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return f"{head}\r\nConnection: close\r\n\r\n{text}".encode()
