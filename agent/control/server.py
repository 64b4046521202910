"""The control API's server: HTTP/1.1 with JSON on the agent's unix socket. What is behind each address is in `api`.

A client that goes away in the middle of an attach changes nothing: the attach goes on to its end (an owner that died
meanwhile is swept as usual). A request that takes longer than the limit is cancelled, and what it began is undone.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from agent import log
from agent.control import peer as peers
from agent.control.api.insight.flows import EVENTS
from agent.control.api.status import SYNC_LIMIT
from agent.control.changes import Tell, tell_of
from agent.control.connection_limit import ConnectionLimit
from agent.control.errors import Handler, failures_as_answers, refusal
from agent.control.lasting_answers import LastingAnswers
from agent.control.reader_share import ReaderShare
from agent.control.socket import BACKLOG, listening
from agent.http_runner import runner
from agent.model.peer import Peer

GROUP = "cellnet"
BODY_LIMIT = 4 << 20
"""Bytes: a policy file of 1 MiB, written as a JSON string."""
SHUTDOWN_WITHIN = 5.0
READING = frozenset({"GET", "HEAD"})
ASKING = frozenset({"/v1/policies/diff", "/v1/policies/validate"})
"""What has a body and changes nothing: a question that is too long for an address."""


@contextlib.asynccontextmanager
async def serve(
    routes: Iterable[web.RouteDef], *, path: Path, tell: Tell, group: str = GROUP, limit: float = 60.0
) -> AsyncIterator[None]:
    """Answer at `path` for as long as the context lasts; `limit` is the longest that a request may take, in seconds. What
    clients change is told to `tell`.

    At its end running requests have 5 s to finish, then they are cancelled.
    """
    readers, connected = peers.group_id(group), dict[socket.socket, Peer]()
    lasting = LastingAnswers()
    permission = _permission(connected, tell=tell, readers=readers, limit=limit, lasting=lasting)
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[failures_as_answers, permission])
    app.add_routes(routes)
    app.on_shutdown.append(lasting.end)
    with listening(path, readers=readers) as made:
        running = runner(app, shutdown=SHUTDOWN_WITHIN)
        await running.setup()
        try:
            assert running.server is not None
            protocols = ConnectionLimit(running.server, connected)
            server = await asyncio.get_running_loop().create_unix_server(protocols, sock=made, backlog=BACKLOG)
            try:
                yield
            finally:
                server.close()
        finally:
            await running.cleanup()
            connected.clear()  # with the last connections' descriptors: aiohttp keeps what it has built of the handlers


def _permission(
    connected: Mapping[socket.socket, Peer], *, tell: Tell, readers: int | None, limit: float, lasting: LastingAnswers
) -> Middleware:
    """Refuses what the peer may not do, ends what takes too long, and logs what changes something."""
    share = ReaderShare()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        connection = transport.get_extra_info("socket")
        peer = connected[connection]
        allowed = peers.permission_of(connection, peer, readers=readers)
        reads = request.method in READING or request.path in ASKING
        if allowed < (peers.Permission.READ if reads else peers.Permission.CHANGE):
            return refusal(403, "Forbidden", f"uid {peer.uid} may not do this", hint=_needed(request.method))
        request[peers.PEER] = peer
        if request.path == EVENTS:
            async with share.turn(peer.uid):
                pass  # it goes on without end, but who asks again and again waits as for any other answer
            return await lasting.give(handler(request))
        try:
            async with asyncio.timeout(limit + (SYNC_LIMIT if request.path == "/v1/sync" else 0)):
                async with share.turn(peer.uid):
                    given = await handler(request)
        except Exception as error:
            if not reads:
                tell_of(request, peer, came_to=error, tell=tell)
            raise
        if not reads:
            log.get("control").info(
                "control_request", method=request.method, path=request.path, status=given.status, pid=peer.pid
            )
            tell_of(request, peer, came_to=given, tell=tell)
        return given

    return check


def _needed(method: str) -> str:
    return f"group {GROUP} may read, only root may change" if method not in READING else f"be root or in group {GROUP}"
