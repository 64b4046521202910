"""Routes and claimed names in etcd: what an attach and the operator change, each as one transaction."""

from collections.abc import Collection, Iterator, Mapping

from agent.errors import Conflict, InvalidInput
from agent.model.cell import Endpoint
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName, Space
from agent.model.routes import Route, Routes, names_above
from agent.store import routes as rule
from agent.store.changes import Changes
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import absent, put, remove, untouched
from agent.store.etcd.commits import Commits
from agent.store.etcd.keys import backwards
from agent.store.etcd.names.records import APPS, encode_name_claim, encode_route, encode_route_claim
from agent.store.etcd.names.view import RoutesAndNames
from agent.store.etcd.transactions import Plan, joined


class EtcdRoutes:
    """A RouteStore."""

    def __init__(self, view: RoutesAndNames, commits: Commits, *, cell: str, changes: Changes) -> None:
        self.changes = changes
        self._view = view
        self._commits = commits
        self._mirror = commits.mirror
        self._keys = commits.keys
        self._cell = cell
        self._asked: frozenset[tuple[str, Space]] = frozenset()  # by what runs on this cell
        self._apps: frozenset[AppName] = frozenset()

    def routes(self) -> Routes:
        """See RouteStore."""
        return self._view.routes

    def claimed_names(self) -> Mapping[str, AppName]:
        """See RouteStore."""
        return self._view.names

    async def claim_route(self, host: str, space: Space) -> None:
        """See RouteStore."""
        self._view.check(host)
        held = self._view.routes.get(host)
        if held is not None and held.space == space:
            return
        if self._mirror.problem is not None:
            rule.claim(self._view.routes, host, space)  # one that another has is refused as such
        await self._commits.settle(lambda: self._plan_to_claim(host, space))
        key = self._keys.claimed_route(host)
        if key in (left_out := self._view.left_out):
            raise Conflict(f"the claim to {host} does not hold: {left_out[key]}", hint=_free(host))

    def _plan_to_claim(self, host: str, space: Space) -> list[Plan]:
        if not rule.claim(self._view.routes, host, space):
            return []
        key, data = self._keys.claimed_route(host), encode_route_claim(space, cell=self._cell)
        if key in self._mirror.copy.values:
            raise Conflict(f"the claim to {host} makes no sense: {self._why_not(key)}", hint=_free(host))
        self._refuse_more()
        families = (self._keys.routes, self._keys.claimed_routes)
        return [([absent(key), *(each for family in families for each in self._untouched(family, host))], [put(key, data)])]

    def _why_not(self, key: str) -> str:
        return (self._view.left_out | self._view.malformed).get(key, "it does not count")

    def _refuse_more(self) -> None:
        if not self._view.takes_more_of(self._cell):
            what = "no more claims of this cell count: it has claimed too many names"
            raise Conflict(what, hint="have the operator free what is no longer needed: `cellnet route unmap`")

    def _untouched(self, family: str, host: str) -> Iterator[rpc.Compare]:
        """Hold where nothing has changed of the name, above it and below it since the copy."""
        since = self._mirror.copy.revision
        for name in (host, *names_above(host)):
            yield untouched(family + backwards(name), since=since)
        yield untouched(f"{family}{backwards(host)}/", since=since, below=True)

    async def map_route(self, host: str, app: AppName, *, writer: StoreCredentials | None = None) -> None:
        """See RouteStore."""
        self._view.check(host)
        await self._commits.await_return()

        def plan() -> list[Plan]:
            changes = rule.mapped(self._view.routes, host, app)
            route = changes.pop(host)
            if route is not None and len(route.apps) > APPS:
                raise InvalidInput(f"{host} is mapped to {APPS} apps already", hint="unmap some of them first")
            ended = [remove(self._keys.claimed_route(name)) for name in (host, *changes)]
            return self._plan_to_write(host, route, ended)

        await self._commits.settle(plan, writer=writer)

    async def unmap_route(self, host: str, app: AppName | None = None, *, writer: StoreCredentials | None = None) -> None:
        """See RouteStore."""
        await self._commits.await_return()

        def plan() -> list[Plan]:
            ended = [remove(self._keys.claimed_route(host))]
            if app is None:
                ended.append(remove(self._keys.claimed_name(host)))
                if self._is_known(host):
                    return self._plan_to_write(host, None, ended)
            return self._plan_to_write(host, rule.unmapped(self._view.routes, host, app)[host], ended)

        await self._commits.settle(plan, writer=writer)

    def _is_known(self, host: str) -> bool:
        """Whether there is anything to free: a record that makes no sense, too."""
        keys = (self._keys.claimed_route(host), self._keys.claimed_name(host))
        there = self._mirror.copy.values
        return host in self._view.routes or host in self._view.names or any(key in there for key in keys)

    def _plan_to_write(self, host: str, route: Route | None, ended: list[rpc.RequestOp]) -> list[Plan]:
        key, data = self._keys.route(host), encode_route(route)
        there = self._mirror.copy.values.get(key)
        if route is not None and there is not None and there.data == data and key not in self._mirror.held.values:
            return []
        return [([*self._untouched(self._keys.routes, host)], [put(key, data), *ended])]

    async def claim_names(self, names: Mapping[str, AppName]) -> None:
        """See RouteStore."""

        def plan() -> list[Plan]:
            there, known = self._mirror.copy.values, self._view.names
            keys = {self._keys.claimed_name(name): app for name, app in names.items() if name not in known}
            free = {key: app for key, app in keys.items() if key not in there}
            if free:
                self._refuse_more()
            data = {key: encode_name_claim(app, cell=self._cell) for key, app in free.items()}
            return joined(([absent(key)], [put(key, each)]) for key, each in data.items())

        if not names.keys() <= self._view.names.keys():
            await self._commits.settle(plan)

    def set_running(self, endpoints: Collection[Endpoint]) -> None:
        """These run on this cell."""
        self._asked = frozenset((host, Space.of(each.app)) for each in endpoints for host in each.routes)
        self._apps = frozenset(each.app for each in endpoints)

    def lacks_claims(self) -> bool:
        """Whether `plans` may have something to make."""
        return any(True for _ in self.plans())

    def plans(self) -> Iterator[Plan]:
        """What makes the claims again by which instances of this cell have names, and which were deleted."""
        there, made = self._mirror.copy.values, dict[str, bytes]()
        for host, space in self._view.route_claims.deleted():
            if (host, space) in self._asked:
                made[self._keys.claimed_route(host)] = encode_route_claim(space, cell=self._cell)
        for name, app in self._view.name_claims.deleted():
            if app in self._apps:
                made[self._keys.claimed_name(name)] = encode_name_claim(app, cell=self._cell)
        for key, data in made.items():
            if key not in there:
                yield [absent(key)], [put(key, data)]


def _free(host: str) -> str:
    return f"the operator can free the name: `cellnet route unmap {host}`"
