"""`/v1/apps`: which apps there are, and where their instances run, on all cells."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping

from aiohttp import web

from agent.attach.transaction import AttachTransactions
from agent.control.errors import JSON
from agent.errors import InvalidInput, NotFound
from agent.model.attachment import Attachment
from agent.model.cell import Endpoint
from agent.model.names import AppName, Space
from agent.model.policy import Pattern
from agent.model.routes import routes_of
from agent.policy.known_apps import KnownApps
from agent.policy.mistaken_names import notices
from agent.store.protocols import CellStore, RouteStore

STRETCH = 100
"""Apps that are written before other tasks have their turn: one or two milliseconds."""


class AppsApi:
    """The handlers. `cell` is this one's name; of its own instances `is_ready` says whether names lead to them."""

    def __init__(
        self,
        cell: str,
        *,
        attaching: AttachTransactions,
        is_ready: Callable[[Attachment], bool],
        cells: CellStore,
        routes: RouteStore,
        known: KnownApps,
    ) -> None:
        self._cell = cell
        self._attaching = attaching
        self._is_ready = is_ready
        self._cells = cells
        self._routes = routes
        self._known = known

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/apps", self.list_all)]

    async def list_all(self, request: web.Request) -> web.Response:
        """All that there are, those of a `space`, or one `app`, which must be there."""
        is_asked = asked_apps(request.query)
        named, instances = await self.named(), self.instances()
        apps = sorted(filter(is_asked, named | instances.keys()), key=str)  # as people count would take long for thousands
        if "app" in request.query and not apps:
            (what,) = notices([Pattern.parse(request.query["app"])], named=named)
            raise NotFound(what, hint="see 'cellnet apps'")
        parts = list[str]()
        for first in range(0, len(apps), STRETCH):
            parts += [json.dumps(self._view(each, instances.get(each, ()))) for each in apps[first : first + STRETCH]]
            await asyncio.sleep(0)
        return web.Response(text=f"[{', '.join(parts)}]\n", content_type=JSON)

    async def named(self) -> frozenset[AppName]:
        """The apps that have an instance, or that a policy or a route names."""
        return await self._known.named()

    def instances(self) -> Mapping[AppName, list[Endpoint]]:
        """Those that run, by app: this cell's as it knows them, the others' as they say."""
        others = (each for each in self._cells.endpoints().values() if each.cell != self._cell)
        found: dict[AppName, list[Endpoint]] = {}
        for each in (*map(self._own, self._attaching.attached()), *others):
            found.setdefault(each.app, []).append(each)
        return found

    def leads(self, host: str, app: AppName) -> bool:
        """Whether a route leads to the app's instances, or to those to come."""
        asked = [route for each in self.instances().get(app, ()) for route in each.routes]
        return host in routes_of(app, asked, self._routes.routes())

    def _own(self, held: Attachment) -> Endpoint:
        return Endpoint(
            self._cell, held.name, held.app, held.instance, held.address, held.ports, held.routes, ready=self._is_ready(held)
        )

    def _view(self, app: AppName, instances: Iterable[Endpoint]) -> Mapping[str, object]:
        """`routes` are those that the operator has mapped to it; an instance may have asked for more."""
        routes = self._routes.routes()
        return {
            "app": str(app),
            "routes": sorted(routes.mapped_to(app)),
            "instances": [
                {
                    "instance": each.instance,
                    "cell": each.cell,
                    "name": each.name,
                    "address": str(each.address),
                    "ports": [port.json for port in each.ports],
                    "routes": routes_of(app, each.routes, routes),
                    "ready": each.ready,
                }
                for each in sorted(instances, key=lambda each: (each.instance, each.cell, each.name))
            ],
        }


def asked_apps(query: Mapping[str, str]) -> Callable[[AppName], bool]:
    """Which apps a query means. Raises InvalidInput."""
    if not query:
        return lambda _: True
    if set(query) == {"space"}:
        space = Space.parse(query["space"])
        return lambda each: Space.of(each) == space
    if set(query) == {"app"}:
        app = AppName.parse(query["app"])
        return lambda each: each == app
    raise InvalidInput(f"the query has {', '.join(sorted(query))}", hint="give space= or app=, once, or nothing")
