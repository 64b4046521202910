"""`/v1/attachments`: containers that are put on the overlay, listed, shown and taken off."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime

from aiohttp import web

from agent.attach.published_ports import PublishedPorts
from agent.attach.transaction import AttachTransactions
from agent.control.api.containers.bodies import AttachBody
from agent.control.api.containers.views import AttachmentInFull, AttachmentView, AttachmentViews, EnvironmentView
from agent.control.bodies import read_body
from agent.control.errors import answer
from agent.control.peer import PEER
from agent.errors import RAISED, Conflict, InvalidInput, NotFound
from agent.loop.desired import CellFacts
from agent.metrics import Metrics
from agent.model.attachment import AttachRequest, check_name
from agent.model.names import AppName
from agent.model.peer import Peer
from agent.model.status import Events, Part
from agent.wording import natural


class AttachmentsApi(Part):
    """The handlers. Keep what was refused; `now` is the time of day (UTC)."""

    def __init__(
        self,
        attaching: AttachTransactions,
        *,
        views: AttachmentViews,
        facts: CellFacts,
        published: PublishedPorts,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._attaching = attaching
        self._views = views
        self._facts = facts
        self._published = published
        self._metrics = metrics
        self._now = now
        self._refused = Events()
        self._names_in_use: set[str] = set()

    async def rows(self) -> Mapping[str, object]:
        """`refused_attaches` since the agent's start, which failed and were undone, and the last of them."""
        return {"refused_attaches": self._refused.count, "last_refused_attaches": self._refused.last}

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/v1/attachments", self.list_all),
            web.post("/v1/attachments", self.add_without_a_name),
            web.get("/v1/attachments/{name}", self.show),
            web.put("/v1/attachments/{name}", self.add),
            web.delete("/v1/attachments/{name}", self.remove),
            web.get("/v1/attachments/{name}/environment", self.show_environment),
        ]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All attachments."""
        await self._published.look()
        return answer(sorted(self.views(), key=lambda each: natural(each.name)))

    async def show(self, request: web.Request) -> web.Response:
        """One attachment, with all that there is of it."""
        return answer(await self._named(request))

    async def show_environment(self, request: web.Request) -> web.Response:
        """What its processes find, as things stand now."""
        found = await self._named(request)
        return answer(EnvironmentView(found.environment, found.warnings, found.environment_file))

    async def _named(self, request: web.Request) -> AttachmentInFull:
        name = request.match_info["name"]
        found = await self.in_full(name)
        if found is None:
            raise NotFound(f"there is no attachment '{name}'", hint="see 'cellnet ps'")
        return found

    async def add(self, request: web.Request) -> web.Response:
        """Attach under the caller's name."""
        body, peer = await read_body(AttachBody, request), request[PEER]
        return answer(await self.attach(body.request(request.match_info["name"], peer=peer), peer=peer), status=201)

    async def add_without_a_name(self, request: web.Request) -> web.Response:
        """Attach under a name that is made up here."""
        body, peer = await read_body(AttachBody, request), request[PEER]
        app = AppName.parse(body.app)
        refused: set[str] = set()
        while True:
            name = free_name(app, taken={each.name for each in self.views()} | self._names_in_use | refused)
            # two callers at once must not be given the same name
            self._names_in_use.add(name)
            try:
                return answer(await self.attach(body.request(name, peer=peer), peer=peer), status=201)
            except Conflict as error:
                # another caller has asked for this very name meanwhile, or its last attachment is still on the way out; any
                # other clash is the caller's
                if error.taken != name:
                    raise
                refused.add(name)
            finally:
                self._names_in_use.discard(name)

    async def remove(self, request: web.Request) -> web.Response:
        """Detach; what is not there is no error."""
        return answer({"detached": await self.detach(check_name(request.match_info["name"]))})

    async def attach(self, request: AttachRequest, *, peer: Peer) -> AttachmentInFull:
        """All of it is in place and listening, or nothing is. Conflict for a name whose namespace lives."""
        self.refuse_own_ports(request)
        try:
            return await self._views.in_full(await self._attaching.attach(request, peer=peer))
        except RAISED as error:
            self._refused.add(self._now(), f"{request.name}: {error.what}")
            self._metrics.refused_attaches.labels(type(error).__name__).inc()
            raise

    def refuse_own_ports(self, request: AttachRequest) -> None:
        """Raises InvalidInput."""
        for port in sorted(self._facts.own_ports.intersection(request.tcp_ports())):
            raise InvalidInput(
                f"port {port} is cellnet's own in every container",
                hint="have the app listen on another, and name that with --port or --tls-target",
            )
        for each in request.publish:
            if each.to is not None:
                for port in sorted(self._facts.own_ports.intersection(each.inside(tls_port=self._facts.tls_port))):
                    raise InvalidInput(
                        f"port {port} is cellnet's own in every container, and is not published",
                        hint=f"{each.first}:tls publishes the port that terminates TLS",
                    )

    async def detach(self, name: str) -> bool:
        """False if there was none of that name."""
        return await self._attaching.detach(name)

    def views(self) -> tuple[AttachmentView, ...]:
        """All that are in place."""
        return tuple(map(self._views.of, self._attaching.attached()))

    async def in_full(self, name: str) -> AttachmentInFull | None:
        """The one of that name, if it is in place."""
        found = next((each for each in self._attaching.attached() if each.name == name), None)
        return None if found is None else await self._views.in_full(found)


def free_name(app: AppName, *, taken: AbstractSet[str]) -> str:
    """The name of an attachment whose caller gave none: `api`, then `api-1`, `api-2` …"""
    number, name = 0, app.app
    while name in taken:
        number += 1
        name = f"{app.app[:56]}-{number}"
    return name
