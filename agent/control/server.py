"""The control API: HTTP/1.1 with JSON on the agent's unix socket, one method of the service behind each address.

A client that goes away in the middle of an attach changes nothing: the attach goes on to its end (whoever asked as its
owner and died is swept as usual). A request that takes longer than the limit is cancelled, and the service undoes it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from agent import log
from agent.control import bodies, views
from agent.control import peer as peers
from agent.control.connection_limit import Entrance
from agent.control.errors import Handler, answer, failures_as_answers, not_found, refusal
from agent.control.service import CellService, Peer
from agent.control.socket import BACKLOG, listening
from agent.errors import Conflict
from agent.model.attachment import check_name
from agent.model.names import AppName

GROUP = "cellnet"
BODY_LIMIT = 4 << 20
"""Bytes: a policy file of 1 MiB, written as a JSON string."""
PEER = web.RequestKey("peer", Peer)
BODY_WITHIN = 10.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHUTDOWN_WITHIN = 5.0
READING = frozenset({"GET", "HEAD"})


Kind = TypeVar("Kind", bound=bodies.Body)


@contextlib.asynccontextmanager
async def serve(service: CellService, *, path: Path, group: str = GROUP, limit: float = 60.0) -> AsyncIterator[None]:
    """Answer at `path` for as long as the context lasts; `limit` is the longest that a request may take, in seconds.

    At its end running requests have 5 s to finish, then they are cancelled.
    """
    readers = peers.group_id(group)
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[failures_as_answers, _door(readers, limit=limit)])
    Api(service).add_to(app)
    with listening(path, readers=readers) as made:
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_WITHIN)
        await runner.setup()
        try:
            assert runner.server is not None
            server = await asyncio.get_running_loop().create_unix_server(Entrance(runner.server), sock=made, backlog=BACKLOG)
            try:
                yield
            finally:
                server.close()
        finally:
            await runner.cleanup()


def _door(readers: int | None, *, limit: float) -> Middleware:
    """Lets in who may come in, and sees to it that nobody stays for ever."""

    @web.middleware
    async def enter(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        connection = transport.get_extra_info("socket")
        peer = peers.peer_of(connection)
        access = peers.access_of(connection, peer, readers=readers)
        if access < (peers.Access.READ if request.method in READING else peers.Access.CHANGE):
            return refusal(403, "Forbidden", f"uid {peer.uid} may not do this", hint=_whom(request.method))
        request[PEER] = peer
        async with asyncio.timeout(limit + (bodies.SYNC_LIMIT if request.path == "/v1/sync" else 0)):
            given = await handler(request)
        if request.method not in READING:
            log.get("control").info(
                "control_request", method=request.method, path=request.path, status=given.status, pid=peer.pid
            )
        return given

    return enter


def _whom(method: str) -> str:
    return f"group {GROUP} may read, only root may change" if method not in READING else f"be root or in group {GROUP}"


class Api:
    """The handlers, one for each method and address."""

    def __init__(self, service: CellService) -> None:
        self._service = service
        self._names_in_use: set[str] = set()

    def add_to(self, app: web.Application) -> None:
        """Put all addresses into `app`."""
        app.add_routes([
            web.get("/v1/attachments", self.list_attachments),
            web.post("/v1/attachments", self.attach_without_a_name),
            web.get("/v1/attachments/{name}", self.show_attachment),
            web.put("/v1/attachments/{name}", self.attach),
            web.delete("/v1/attachments/{name}", self.detach),
            web.get("/v1/status", self.status),
            web.get("/v1/policies", self.list_policies),
            web.post("/v1/policies/allow", self.allow_policy),
            web.post("/v1/policies/apply", self.apply_policies),
            web.post("/v1/policies/accept-loss", self.accept_loss),
            web.get("/v1/policies/check", self.check),
            web.delete("/v1/policies/{name}", self.delete_policy),
            web.post("/v1/sync", self.sync),
            web.get("/v1/cells", self.list_cells),
            web.delete("/v1/cells/{name}", self.remove_cell),
            web.get("/v1/ca", self.ca),
            web.post("/v1/ca/trust", self.publish_trust),
            web.get("/v1/metrics", self.metrics),
        ])  # fmt: skip

    async def list_attachments(self, _request: web.Request) -> web.Response:
        """All attachments."""
        return answer([views.attachment(each) for each in await self._service.attachments()])

    async def show_attachment(self, request: web.Request) -> web.Response:
        """One attachment, with environment and pin."""
        name = request.match_info["name"]
        found = await self._service.attachment(name)
        if found is None:
            return not_found(f"there is no attachment '{name}'", hint="see 'cellnet ps'")
        return answer(views.attachment_in_full(found))

    async def attach(self, request: web.Request) -> web.Response:
        """Attach under the caller's name."""
        body = await _body(bodies.AttachBody, request)
        asked = body.request(request.match_info["name"], peer=request[PEER])
        return answer(views.attachment_in_full(await self._service.attach(asked, peer=request[PEER])), status=201)

    async def attach_without_a_name(self, request: web.Request) -> web.Response:
        """Attach under a name that is made up here."""
        body = await _body(bodies.AttachBody, request)
        app = AppName.parse(body.app)
        refused: set[str] = set()
        while True:
            name = bodies.free_name(app, taken=await self._names() | self._names_in_use | refused)
            # two callers at once must not be given the same name
            self._names_in_use.add(name)
            try:
                made = await self._service.attach(body.request(name, peer=request[PEER]), peer=request[PEER])
                return answer(views.attachment_in_full(made), status=201)
            except Conflict as error:
                # somebody asked for the very name meanwhile, or who had it is still on the way out; any other clash is the
                # caller's
                if error.taken != name:
                    raise
                refused.add(name)
            finally:
                self._names_in_use.discard(name)

    async def _names(self) -> set[str]:
        return {each.attachment.name for each in await self._service.attachments()}

    async def detach(self, request: web.Request) -> web.Response:
        """Detach; what is not there is no error."""
        return answer({"detached": await self._service.detach(check_name(request.match_info["name"]))})

    async def status(self, _request: web.Request) -> web.Response:
        """The cell on one screen."""
        return answer(views.status(await self._service.status()))

    async def list_policies(self, _request: web.Request) -> web.Response:
        """All policies in force."""
        return answer([views.policy(each) for each in await self._service.policies()])

    async def allow_policy(self, request: web.Request) -> web.Response:
        """One policy into the store."""
        body = await _body(bodies.AllowBody, request)
        name = await self._service.allow_policy(
            body.source, to=body.to, ports=body.ports, name=body.name, credentials=body.credentials()
        )
        return answer({"name": name}, status=201)

    async def apply_policies(self, request: web.Request) -> web.Response:
        """A document's policies into the store."""
        body = await _body(bodies.ApplyBody, request)
        return answer({"names": await self._service.apply_policies(body.document, credentials=body.credentials())})

    async def delete_policy(self, request: web.Request) -> web.Response:
        """One policy out of the store."""
        name, body = request.match_info["name"], await _body(bodies.OperatorBody, request)
        if not await self._service.delete_policy(name, credentials=body.credentials()):
            return not_found(f"there is no policy '{name}' in the store", hint="see 'cellnet policy list'")
        return answer({"deleted": True})

    async def accept_loss(self, request: web.Request) -> web.Response:
        """What the store has lost is given up."""
        body = await _body(bodies.OperatorBody, request)
        return answer({"names": await self._service.accept_loss(credentials=body.credentials())})

    async def check(self, request: web.Request) -> web.Response:
        """What the policies say about one connection."""
        asked = bodies.parse_check(dict(request.query))
        found = await self._service.check(asked.source, destination=asked.destination, protocol=asked.protocol, port=asked.port)
        return answer(views.verdict(found))

    async def sync(self, request: web.Request) -> web.Response:
        """Wait until all is enforced."""
        body = await _body(bodies.SyncBody, request)
        missing = await self._service.sync(within=body.timeout)
        return answer({"ok": not missing, "missing": missing})

    async def list_cells(self, _request: web.Request) -> web.Response:
        """All cells of the store."""
        return answer([views.cell(each) for each in await self._service.cells()])

    async def remove_cell(self, request: web.Request) -> web.Response:
        """Forget a cell that is gone."""
        name, body = request.match_info["name"], await _body(bodies.OperatorBody, request)
        await self._service.remove_cell(name, credentials=body.credentials())
        return answer({"removed": True})

    async def metrics(self, _request: web.Request) -> web.Response:
        """For a monitoring system."""
        return web.Response(text=await self._service.metrics(), headers={"Content-Type": METRICS_TYPE})

    async def ca(self, _request: web.Request) -> web.Response:
        """The authorities' certificates."""
        return answer(views.ca(await self._service.ca()))

    async def publish_trust(self, request: web.Request) -> web.Response:
        """Roots into the store, for all cells."""
        body = await _body(bodies.TrustBody, request)
        given = await self._service.publish_trust(body.roots, add=body.add, credentials=body.credentials())
        return answer({"roots": [views.root(each) for each in given]})


async def _body(kind: type[Kind], request: web.Request) -> Kind:
    async with asyncio.timeout(BODY_WITHIN):
        return bodies.parse(kind, await request.read())
