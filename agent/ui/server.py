"""The page's server: files of a fixed list, questions of a fixed list to the agent, and changes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web
from pydantic import Field

from agent.bounded_visitor import CONNECTIONS
from agent.config.listen import ListenAddress
from agent.control.bodies import Body, read_body
from agent.control.errors import JSON, answer, failures_as_answers, refusal
from agent.errors import HostRefused
from agent.http_runner import runner
from agent.ui.agent_link import AgentLink, Answered, failed
from agent.ui.changes import Asked, PolicyChanges
from agent.ui.door import ENTER, HEADERS, cookie_name, door
from agent.ui.entrance import Entrance
from agent.ui.visitors import NewVisitor
from host.errors import refused_as

PAGE: Final = Path(__file__).parent / "page"
TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES: Final = (
    "index.html", "style.css", "panel.css", "map.css", "icon.svg", "main.js", "ask.js", "elements.js", "geometry.js",
    "layout.js", "view.js", "map.js", "panel.js", "lists.js", "changes.js", "refusals.js", "world.js",
)  # fmt: skip
QUESTIONS: Final = (
    "status", "apps", "policies", "policies/matrix", "policies/check", "denied", "denied/pairs", "cells", "attachments",
    "explain", "flows", "history", "summaries",
)  # fmt: skip
STREAM: Final = "events"
BODY_LIMIT: Final = 64 << 10
AT_ONCE: Final = 6  # questions to the agent


@dataclass(frozen=True, slots=True)
class Served:
    """Where it answers, and what has to be opened there."""

    listen: ListenAddress
    token: str

    @property
    def address(self) -> str:
        """The token is behind the #, which no browser sends and no log has."""
        return f"http://{self.listen}/#{self.token}"


class CallForReal(Body):
    """`POST /v1/explain/try`."""

    source: str = Field(alias="from", max_length=300)
    to: str = Field(max_length=300)
    port: str = Field(max_length=30)

    def query(self) -> Mapping[str, str]:
        """As the agent takes it."""
        return {"from": self.source, "to": self.to, "port": self.port}


class Page:
    """The handlers."""

    def __init__(self, agent: AgentLink, changes: PolicyChanges, entrance: Entrance, *, port: int, may_change: bool) -> None:
        self._agent = agent
        self._changes = changes
        self._entrance = entrance
        self._port = port
        self._may_change = may_change
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._files = {name: (PAGE / name).read_bytes() for name in FILES}

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/", partial(self.file, "index.html")),
            *(web.get(f"/{name}", partial(self.file, name)) for name in FILES[1:]),
            web.post(ENTER, self.enter),
            web.get("/v1/me", self.me),
            *(web.get(f"/v1/{name}", self.question) for name in QUESTIONS),
            web.get(f"/v1/{STREAM}", self.events),
            web.post("/v1/explain/try", self.call),
            web.get("/v1/changes", self.list_changes),
            web.post("/v1/changes", self.change),
            web.post("/v1/changes/preview", self.preview),
            web.post(r"/v1/changes/{number:\d{1,9}}/undo", self.undo),
            web.post(r"/v1/changes/{number:\d{1,9}}/preview", self.preview_undo),
        ]

    async def file(self, name: str, _request: web.Request) -> web.Response:
        """One of the page's own."""
        return web.Response(body=self._files[name], content_type=TYPES[Path(name).suffix], charset="utf-8")

    async def enter(self, request: web.Request) -> web.Response:
        """A token for a session."""
        given = (await request.content.read(200)).decode(errors="replace")
        session = self._entrance.enter(given)
        if session is None:
            what = "this address was used already" if self._entrance.is_used else "this is not the token"
            return refusal(401, "Unauthorized", what, hint="start `cellnet ui` again, and open the address that it prints")
        made = answer({"entered": True})
        made.set_cookie(cookie_name(self._port), session, httponly=True, samesite="Strict", path="/")
        return made

    async def me(self, _request: web.Request) -> web.Response:
        """What the caller may do."""
        return answer({"may_change": self._may_change})

    async def question(self, request: web.Request) -> web.Response:
        """What the agent answers, as it is."""
        async with self._turns:
            return _passed_on(await self._agent.ask("GET", request.path_qs))

    async def call(self, request: web.Request) -> web.Response:
        """A call for real, from inside the source: the agent does it for root alone, and bounds it."""
        asked = await read_body(CallForReal, request)
        return self._unless_reader() or _passed_on(await self._agent.ask("POST", request.path, asked.query()))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """What the agent tells as it happens, for as long as the page listens."""
        made = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        try:
            async with self._agent.stream(request.path_qs) as given:
                if given.status != 200:
                    return _passed_on(Answered(given.status, await given.read()))
                await made.prepare(request)
                async for part in given.content.iter_any():
                    await made.write(part)
        except (OSError, aiohttp.ClientError):
            if not made.prepared:
                return _passed_on(failed(503, "Unavailable", "no agent answers", hint="see 'cellnet status'"))
        return made

    async def list_changes(self, _request: web.Request) -> web.Response:
        """Those that were made here."""
        return answer(list(map(asdict, self._changes.made)))

    async def preview(self, request: web.Request) -> web.Response:
        """What a change would do."""
        return _passed_on(await self._changes.preview(await read_body(Asked, request)))

    async def change(self, request: web.Request) -> web.Response:
        """Make it."""
        return self._unless_reader() or _passed_on(await self._changes.make(await read_body(Asked, request)))

    async def preview_undo(self, request: web.Request) -> web.Response:
        """What undoing a change would do."""
        return _passed_on(await self._changes.preview_undo(int(request.match_info["number"])))

    async def undo(self, request: web.Request) -> web.Response:
        """Undo it."""
        return self._unless_reader() or _passed_on(await self._changes.undo(int(request.match_info["number"])))

    def _unless_reader(self) -> web.Response | None:
        """The agent refuses it too."""
        if self._may_change:
            return None
        return refusal(403, "Forbidden", "only root may change policies", hint="sudo cellnet ui")


def _passed_on(given: Answered) -> web.Response:
    return web.Response(status=given.status, body=given.body, content_type=JSON)


@contextlib.asynccontextmanager
async def serving(
    listen: ListenAddress, agent: AgentLink, *, changes: PolicyChanges, users: frozenset[int], may_change: bool
) -> AsyncIterator[Served]:
    """Serve the page for as long as the context lasts; port 0 is any that is free. Raises HostRefused."""
    entrance, bound = Entrance(), _bound(listen)
    port = bound.getsockname()[1]
    page = Page(agent, changes, entrance, port=port, may_change=may_change)
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[door(entrance, port=port), failures_as_answers])
    app.add_routes(page.routes())
    running = runner(app, shutdown=0.5)
    await running.setup()
    try:
        assert running.server is not None
        visitors = partial(NewVisitor, running.server, set[asyncio.Transport](), users=users)
        server = await asyncio.get_running_loop().create_server(visitors, sock=bound, backlog=CONNECTIONS)
        try:
            yield Served(ListenAddress(listen.address, port), entrance.token)
        finally:
            server.close()
    finally:
        await running.cleanup()


def _bound(listen: ListenAddress) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        with refused_as(f"cannot serve at {listen}", hint="see `ss -ltnp`, or choose another with --listen"):
            made.bind((str(listen.address), listen.port))
    except HostRefused:
        made.close()
        raise
    return made
