"""The apps that are known on this cell: those that a scope or a star in a policy may mean."""

from collections.abc import Callable

from agent.model.names import AppName
from agent.store.protocols import RouteStore, TagStore


class KnownApps:
    """An app is known once a policy or a route names it or an instance of it is there, on any cell, and for a week after that:
    one that is down for a while must not vanish from the environment of those that need it. `now`: seconds since 1970.
    """

    def __init__(self, tags: TagStore, routes: RouteStore, *, now: Callable[[], float]) -> None:
        self._tags = tags
        self._routes = routes
        self._now = now
        self._seen: tuple[object, ...] = ()
        self._all = frozenset[AppName]()

    async def all(self) -> frozenset[AppName]:
        """The same object as long as nothing changed."""
        seen = (await self._tags.tags(), self._routes.routes())
        if len(self._seen) != len(seen) or any(one is not other for one, other in zip(self._seen, seen, strict=True)):
            found = await self.named() | await self._tags.resting_apps(now=self._now())
            self._seen, self._all = seen, self._all if found == self._all else found
        return self._all

    async def named(self) -> frozenset[AppName]:
        """Without those that are only remembered."""
        return self.routed().union(await self._tags.tags())

    def routed(self) -> frozenset[AppName]:
        """Those that a route leads to."""
        return frozenset(app for route in self._routes.routes().values() for app in route.apps)
