"""Routes and instances' numbers of a store that a cell does not share: nothing contends for them but its own apps."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from agent.errors import Conflict
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName, Space
from agent.model.routes import Route, Routes
from agent.store import routes as rule
from agent.store.changes import Changes
from agent.store.database import NEVER, Database, Version
from agent.store.indexes import choose
from agent.store.refusals import index_taken, refuse_credentials

ROUTE = "INSERT OR REPLACE INTO routes (host, space, apps, by_operator, without) VALUES (?, ?, ?, ?, ?)"
NAME = "INSERT OR IGNORE INTO names (name, app) VALUES (?, ?)"


@dataclass(frozen=True, slots=True)
class LoneContent:
    """What the file holds, with all that other processes had written at `version`."""

    version: Version = NEVER
    routes: Routes = field(default_factory=Routes)
    names: Mapping[str, AppName] = field(default_factory=lambda: MappingProxyType({}))


class LoneNames:
    """A RouteStore and an IndexStore.

    Routes and names are durable: one that the operator has freed must not come back. An attachment's number is in the ledger;
    here is only, until the process ends, which numbers are promised to attachments that the ledger may not have yet.
    """

    def __init__(self, database: Database, *, changes: Changes) -> None:
        self.changes = changes
        self._database = database
        self._content = LoneContent()
        self._promised: dict[tuple[AppName, int], str] = {}
        self._known()

    def routes(self) -> Routes:
        return self._known().routes

    def claimed_names(self) -> Mapping[str, AppName]:
        return self._known().names

    async def claim_route(self, host: str, space: Space) -> None:
        if rule.claim(self._known().routes, host, space):
            self._change(lambda routes: rule.claim(routes, host, space))

    async def map_route(self, host: str, app: AppName, *, writer: StoreCredentials | None = None) -> None:
        refuse_credentials(writer)
        self._change(lambda routes: rule.mapped(routes, host, app))

    async def unmap_route(self, host: str, app: AppName | None = None, *, writer: StoreCredentials | None = None) -> None:
        refuse_credentials(writer)
        freed = host if app is None and host in self._known().names else None
        self._change(lambda routes: {} if freed and host not in routes else rule.unmapped(routes, host, app), freed=freed)

    def _change(self, change: Callable[[Routes], rule.Changes], *, freed: str | None = None) -> None:
        with self._database.transaction(durable=True) as connection:
            before = self._current()
            changes = change(before.routes)
            gone = [(host,) for host, route in changes.items() if route is None]
            connection.executemany("DELETE FROM routes WHERE host = ?", gone)
            connection.executemany(ROUTE, [_row(route) for route in changes.values() if route is not None])
            connection.execute("DELETE FROM names WHERE name = ?", (freed,))
        names = before.names if freed is None else _without(before.names, freed)
        self._replace(LoneContent(before.version, before.routes.after(changes), names))

    async def claim_names(self, names: Mapping[str, AppName]) -> None:
        if names.keys() <= self._known().names.keys():
            return
        with self._database.transaction(durable=True) as connection:
            before = self._current()
            connection.executemany(NAME, [(name, str(app)) for name, app in names.items()])
        self._replace(LoneContent(before.version, before.routes, MappingProxyType({**names, **before.names})))

    async def claim_index(self, app: AppName, *, name: str, wanted: int | None, avoid: Collection[int]) -> int:
        def holder(index: int) -> Conflict | None:
            other = self._promised.get((app, index), name)
            return None if other == name else index_taken(app, index, by=f"'{other}'")

        index = choose(app, wanted=wanted, avoid=avoid, holder=holder)
        self._promised[app, index] = name
        return index

    async def release_index(self, app: AppName, index: int, *, name: str) -> None:
        if self._promised.get((app, index)) == name:
            del self._promised[app, index]

    def set_reserved(self, indexes: Mapping[tuple[AppName, int], str]) -> None:
        del indexes  # as those of attachments, they are in the cell's own file, and each claim is told what to avoid

    def claimant(self, app: AppName, index: int) -> str | None:
        del app, index
        return None

    def take_claimed(self) -> frozenset[tuple[AppName, int]]:
        return frozenset()

    def _known(self) -> LoneContent:
        """What the file holds; what was read last, where it cannot be read any more."""
        with self._database.kept("names", was_read=self._content.version != NEVER):
            self._content = self._current()
        return self._content

    def _current(self) -> LoneContent:
        """What the file holds, inside a transaction too. Raises HostRefused."""
        version, old = self._database.foreign_version(), self._content
        if version == old.version:
            return old
        found = self._database.read("SELECT host, space, apps, by_operator, without FROM routes")
        routes = Routes({row["host"]: _route(*row) for row in found})
        names = {row["name"]: AppName.parse(row["app"]) for row in self._database.read("SELECT name, app FROM names")}
        return LoneContent(
            version,
            old.routes if routes == old.routes else routes,
            old.names if names == old.names else MappingProxyType(names),
        )

    def _replace(self, after: LoneContent) -> None:
        """Take what was written, once it is committed."""
        before, self._content = self._content, after
        if before.routes is not after.routes or before.names is not after.names:
            self.changes.announce()


def _without(names: Mapping[str, AppName], name: str) -> Mapping[str, AppName]:
    return MappingProxyType({each: app for each, app in names.items() if each != name})


def _row(route: Route) -> tuple[str, str, str, int, str]:
    return (route.host, str(route.space), _list(route.apps), int(route.by_operator), _list(route.without))


def _list(apps: Collection[AppName]) -> str:
    return json.dumps(sorted(map(str, apps)))


def _route(host: str, space: str, apps: str, by_operator: int, without: str) -> Route:
    mapped, taken = (frozenset(map(AppName.parse, json.loads(each))) for each in (apps, without))
    return Route(host, Space.parse(space), mapped, by_operator=bool(by_operator), without=taken)
