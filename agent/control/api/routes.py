"""`/v1/routes`: names below route domains, listed, and given to apps or taken from them by the operator."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from agent.control.bodies import OperatorBody, read_body
from agent.control.errors import answer
from agent.identity.names import Naming
from agent.model.names import AppName
from agent.model.policy import Pattern
from agent.model.routes import Route
from agent.policy.known_apps import KnownApps
from agent.policy.mistaken_names import notices
from agent.store.protocols import RouteStore


@dataclass(frozen=True, slots=True)
class RouteView:
    """A route that holds. `apps` are those that it is mapped to; `claimed`: an attach has claimed it for the space, and no
    operator has given it to an app. `instances`: to how many it leads now, on all cells.
    """

    host: str
    space: str
    apps: tuple[str, ...]
    claimed: bool
    instances: int


class MapBody(OperatorBody):
    """`PUT /v1/routes/{host}`."""

    app: str


class UnmapBody(OperatorBody):
    """`DELETE /v1/routes/{host}`; without an app the name is free."""

    app: str | None = None


class RoutesApi:
    """The handlers. `in_force` returns when what the store has is in force here; `instances` counts those behind each name;
    `leads` says whether a route leads to an app.
    """

    def __init__(
        self,
        store: RouteStore,
        naming: Naming,
        *,
        known: KnownApps,
        in_force: Callable[[], Awaitable[None]],
        instances: Callable[[], Mapping[str, int]],
        leads: Callable[[str, AppName], bool],
    ) -> None:
        self._store = store
        self._naming = naming
        self._known = known
        self._in_force = in_force
        self._instances = instances
        self._leads = leads

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/v1/routes", self.list_all),
            web.put("/v1/routes/{host}", self.map),
            web.delete("/v1/routes/{host}", self.unmap),
        ]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All routes of all cells."""
        found, instances = self._store.routes(), self._instances()
        return answer([_view(found[host], instances.get(host, 0)) for host in sorted(found)])

    async def map(self, request: web.Request) -> web.Response:
        """Give it to an app, beside those of its space that have it."""
        host, body = request.match_info["host"], await read_body(MapBody, request)
        app = AppName.parse(body.app)
        self._naming.domains.require(host)
        self._naming.require_room(app, [host])
        found = await self._notices(app, is_new=True)  # the store will name it
        await self._store.map_route(host, app, writer=body.credentials())
        await self._in_force()
        return answer({"host": host, "app": str(app), "notices": found})

    async def unmap(self, request: web.Request) -> web.Response:
        """Take it from an app, or from the space that has it. An app that it does not lead to will not get it at an attach."""
        host, body = request.match_info["host"], await read_body(UnmapBody, request)
        app = None if body.app is None else AppName.parse(body.app)
        led, found = app is None or self._leads(host, app), () if app is None else await self._notices(app)
        await self._store.unmap_route(host, app, writer=body.credentials())
        await self._in_force()
        return answer({"unmapped": led, "notices": found})

    async def _notices(self, app: AppName, *, is_new: bool = False) -> tuple[str, ...]:
        """What is probably mistyped."""
        return notices([Pattern(app.org, app.space, app.app)], named=await self._known.named(), is_new=is_new)


def _view(route: Route, instances: int) -> RouteView:
    apps = tuple(map(str, sorted(route.apps)))
    return RouteView(route.host, str(route.space), apps, claimed=not route.by_operator, instances=instances)
