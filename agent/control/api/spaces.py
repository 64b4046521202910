"""`/v1/spaces`: the apps of each space, and those that are declared before they ever ran."""

from collections.abc import Mapping

from aiohttp import web
from pydantic import Field

from agent.control.bodies import Body, read_body
from agent.control.enforcement import Enforcement
from agent.control.errors import answer
from agent.errors import InvalidInput
from agent.model.names import AppName, Space
from agent.policy.known_apps import KnownApps
from agent.store.declared_apps import DeclaredApps
from agent.wording import natural

MOST = 1_000
"""Apps that one space may have declared."""


class SpaceBody(Body):
    """`PUT /v1/spaces/{org}/{space}`: the last parts of its apps' names."""

    apps: tuple[str, ...] = Field(max_length=MOST)


class SpacesApi:
    """The handlers. What is declared is answered when the apps have their tags."""

    def __init__(self, declared: DeclaredApps, *, known: KnownApps, enforcement: Enforcement) -> None:
        self._declared = declared
        self._known = known
        self._enforcement = enforcement

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/spaces", self.list_all), web.put("/v1/spaces/{org}/{space}", self.declare)]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All spaces with apps that are there or declared, on any cell."""
        declared, by_space = self._declared.all(), dict[Space, set[AppName]]()
        for each in await self._known.named() | declared:
            by_space.setdefault(Space.of(each), set()).add(each)
        ordered = sorted(by_space, key=lambda each: natural(str(each)))
        return answer([_view(space, by_space[space], declared) for space in ordered])

    async def declare(self, request: web.Request) -> web.Response:
        """These in place of what was declared before."""
        space = Space.parse(f"{request.match_info['org']}/{request.match_info['space']}")
        body = await read_body(SpaceBody, request)
        apps = frozenset(AppName.parse(f"{space}/{each}") for each in body.apps)
        if len(apps) < len(body.apps):
            raise InvalidInput("an app is named twice", hint="name each once")
        self._declared.declare(space, apps)
        await self._enforcement.next()
        return answer(_view(space, {each for each in await self._known.named() if Space.of(each) == space}, apps))


def _view(space: Space, apps: set[AppName], declared: frozenset[AppName]) -> Mapping[str, object]:
    """`apps` are all of the space that are known, `declared` those of them that are declared on this cell."""
    return {"space": str(space), "apps": _names(apps), "declared": _names(apps & declared)}


def _names(apps: set[AppName]) -> list[str]:
    return sorted((each.app for each in apps), key=natural)
