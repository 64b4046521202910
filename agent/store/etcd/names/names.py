"""All that etcd has of names: routes, claimed names, instances' numbers. Followed, changed, and kept up, for one store."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice

from agent.model.cell import Endpoint
from agent.model.status import Problem
from agent.store.changes import Changes
from agent.store.etcd.cells import CellsAndEndpoints
from agent.store.etcd.commits import Commits
from agent.store.etcd.names.index_claims import IndexClaims
from agent.store.etcd.names.index_store import EtcdIndexes
from agent.store.etcd.names.own_claims import OwnClaims
from agent.store.etcd.names.route_store import EtcdRoutes
from agent.store.etcd.names.view import NOTHING, RoutesAndNames
from agent.store.etcd.transactions import Plan
from agent.wording import printable

NAMED = 100  # claims that do not hold, by their keys
UNMAP = "`cellnet route unmap NAME` frees the name for whichever claims it next; docs/store.md says what else to do"


class Names:
    """`routes` is a RouteStore, `indexes` an IndexStore.

    `now`: seconds of a clock that is not set; `pause`: seconds before what failed is tried again.
    """

    def __init__(
        self,
        commits: Commits,
        view: RoutesAndNames,
        *,
        cells: CellsAndEndpoints,
        changes: Changes,
        cell: str,
        pause: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view = view
        self._mirror = commits.mirror
        self._claims = IndexClaims(commits.keys, cell=cell, cells=cells, now=now)
        self._own = OwnClaims(commits, self._plans, pause=pause)
        self.routes = EtcdRoutes(view, commits, cell=cell, changes=changes)
        self.indexes = EtcdIndexes(self._claims, commits, cell=cell, wake=self._own.wake)

    async def run(self) -> None:
        """Keep up what this cell has claimed, for ever."""
        await self._own.run()

    def _plans(self) -> Iterator[Plan]:
        yield from self.indexes.plans()
        yield from self.routes.plans()

    def update(self, changed: Collection[str], *, first: Mapping[str, str] = NOTHING) -> bool:
        """Take what has changed (none: an outage is over); whether names are other than before. `first`: see RoutesAndNames."""
        in_force = self._mirror.in_force
        numbers = self.indexes.follow(changed, in_force)
        found = self._view.update(changed, in_force, first=first)
        if self.routes.lacks_claims():
            self._own.wake()
        return found or numbers

    def set_running(self, endpoints: Collection[Endpoint]) -> None:
        """These run on this cell, and nothing else."""
        self.indexes.set_running(endpoints)
        self.routes.set_running(endpoints)

    @property
    def malformed(self) -> dict[str, str]:
        """Key -> why, of records that make no sense."""
        return self._view.malformed | self._claims.malformed

    def floods(self) -> Iterator[str]:
        """In words, which cells claim or write too much."""
        yield from self._view.floods()
        yield from self._claims.floods()

    def problems(self) -> Iterator[Problem]:
        """Names and numbers that more than one claims."""
        yield from self.indexes.problems()
        left_out = self._view.left_out
        for key, why in islice(left_out.items(), NAMED):
            yield Problem("store", printable(f"the claim {key} in etcd is left out: {why}"), UNMAP)
        if len(left_out) > NAMED:
            yield Problem("store", f"{len(left_out) - NAMED} more claims to names in etcd are left out", UNMAP)
