"""The apps that are known on this cell: those that a scope or a star in a policy may mean."""

from collections.abc import Callable, Mapping

from agent.model.names import AppName
from agent.store.protocols import TagStore


class KnownApps:
    """An app is known once a policy names it or an instance of it is there, on any cell, and for a week after that: one that
    is down for a while must not vanish from the environment of those that need it. `now`: seconds since 1970.
    """

    def __init__(self, tags: TagStore, *, now: Callable[[], float]) -> None:
        self._tags = tags
        self._now = now
        self._seen: Mapping[AppName, int] | None = None
        self._all = frozenset[AppName]()

    async def all(self) -> frozenset[AppName]:
        """The same object as long as nothing changed."""
        tags = await self._tags.tags()
        if tags is not self._seen:
            found = frozenset(tags) | await self._tags.resting_apps(now=self._now())
            self._seen, self._all = tags, self._all if found == self._all else found
        return self._all
