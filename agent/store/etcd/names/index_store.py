"""Instances' numbers in etcd: claimed for an attachment that is to come, and kept up for those that run on this cell.

A number is claimed in one transaction before the attachment is made. In an outage it is the lowest that the copy knows to be
free, and is claimed afterwards, as are those of containers that were there before, and those whose claims went with etcd's
data. What no attachment of this cell has any more is given back, so that no claim that lies about this cell stays.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

from agent.errors import Conflict, HostRefused, Unavailable
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.status import Problem
from agent.store.etcd.client import Value, put, remove
from agent.store.etcd.commits import Commits
from agent.store.etcd.names.index_claims import IndexClaims, Instance
from agent.store.etcd.names.records import IndexClaim, encode_index
from agent.store.etcd.transactions import Plan
from agent.store.indexes import choose
from agent.store.refusals import index_taken


class EtcdIndexes:
    """An IndexStore. `wake` has what `plans` names written soon."""

    def __init__(self, claims: IndexClaims, commits: Commits, *, cell: str, wake: Callable[[], None]) -> None:
        self._claims = claims
        self._commits = commits
        self._mirror = commits.mirror
        self._keys = commits.keys
        self._cell = cell
        self._wake = wake
        self._promised: dict[Instance, str] = {}  # to attachments that may not run yet
        self._unclaimed: set[Instance] = set()  # of these, as etcd did not answer
        self._running: dict[Instance, str] | None = None  # None until it was set once
        self._reserved: dict[Instance, str] = {}
        self._clashes: dict[Instance, IndexClaim] = {}

    async def claim_index(self, app: AppName, *, name: str, wanted: int | None, avoid: Collection[int]) -> int:
        """See IndexStore."""
        chosen: list[int] = []

        def plan() -> list[Plan]:
            self._break_promises(app, chosen)
            index = choose(app, wanted=wanted, avoid=avoid, holder=lambda index: self._refusal((app, index), name))
            chosen[:] = [index]
            self._promised[app, index] = name
            return self._plan_to_claim((app, index), name)

        try:
            await self._commits.settle(plan, follow=False)
        except (Unavailable, HostRefused):
            if not chosen:
                plan()
            self._unclaimed.add((app, chosen[0]))
            self._wake()
        except BaseException:
            self._break_promises(app, chosen)
            raise
        return chosen[0]

    def _break_promises(self, app: AppName, indexes: Collection[int]) -> None:
        for index in indexes:
            self._promised.pop((app, index), None)
            self._unclaimed.discard((app, index))

    def follow(self, changed: Collection[str], values: Mapping[str, Value]) -> bool:
        """These records have changed (none: an outage is over); whether any is about a number."""
        concerned = self._claims.update(changed, values)
        if not changed or any(self._wanted(instance) or instance in self._claims.own for instance in concerned):
            self._wake()
        return bool(concerned)

    async def release_index(self, app: AppName, index: int, *, name: str) -> None:
        """See IndexStore."""
        for known in (self._promised, self._running or {}):
            if known.get((app, index)) == name:
                del known[app, index]
                self._unclaimed.discard((app, index))
        self._wake()

    def claimant(self, app: AppName, index: int) -> str | None:
        """See IndexStore."""
        return self._claims.claimant((app, index))

    def take_claimed(self) -> frozenset[Instance]:
        """See IndexStore."""
        return self._claims.take_claimed()

    def set_running(self, endpoints: Collection[Endpoint]) -> None:
        """These run on this cell, and nothing else but what was claimed and does not run yet."""
        before = self._running
        self._running = {(each.app, each.instance): each.name for each in endpoints}
        for instance, name in self._running.items():
            if self._promised.get(instance) == name:
                del self._promised[instance]
                self._unclaimed.discard(instance)
        if self._running != before:
            self._wake()

    def set_reserved(self, indexes: Mapping[Instance, str]) -> None:
        """See IndexStore."""
        if indexes != self._reserved:
            self._reserved = dict(indexes)
            self._wake()

    def _refusal(self, instance: Instance, name: str) -> Conflict | None:
        """Why the attachment cannot have the number."""
        app, index = instance
        mine = self._wanted(instance)
        if mine is not None:
            return None if mine == name else index_taken(app, index, by=f"'{mine}'")
        held = self._holder(instance)
        if held is None or held.cell == self._cell:
            return None  # no attachment of this cell has it any more
        hint = f"`cellnet cell remove {held.cell}` frees what that cell has, if it is gone for good"
        return index_taken(app, index, by=f"'{held.name}' on cell {held.cell}", hint=hint)

    def _holder(self, instance: Instance) -> IndexClaim | None:
        key = self._keys.index(*instance)
        return self._claims.holder(key, self._mirror.copy.values.get(key), instance)

    def _wanted(self, instance: Instance) -> str | None:
        """The attachment of this cell that has the number."""
        return self._promised.get(instance) or (self._running or {}).get(instance) or self._reserved.get(instance)

    def _plan_to_claim(self, instance: Instance, name: str) -> list[Plan]:
        if self._holder(instance) == (claim := IndexClaim(self._cell, name)):
            return []
        key = self._keys.index(*instance)
        return [([self._commits.unchanged(key)], [put(key, encode_index(claim))])]

    def plans(self) -> Iterator[Plan]:
        """What is to be written so that just this cell's own numbers are claimed for it; notes those that another has."""
        self._clashes.clear()
        unclaimed = {each: self._promised[each] for each in self._unclaimed}
        for instance, name in {**self._reserved, **(self._running or {}), **unclaimed}.items():
            held = self._holder(instance)
            if held is not None and held.cell != self._cell:
                self._clashes[instance] = held
            else:
                yield from self._plan_to_claim(instance, name)
        if self._running is not None:
            for instance in self._claims.own.keys() - self._running.keys() - self._promised.keys() - self._reserved.keys():
                key = self._keys.index(*instance)
                yield [self._commits.unchanged(key)], [remove(key)]

    def plans_to_forget(self, cell: str) -> Iterator[Plan]:
        """What removes the claims of a cell that is gone, if it has not come back."""
        gone = self._commits.unchanged(self._keys.record(cell))
        for key in self._claims.of(cell):
            yield [gone, self._commits.unchanged(key)], [remove(key)]

    def problems(self) -> Iterator[Problem]:
        """Numbers that two attachments have."""
        for (app, index), held in sorted(self._clashes.items()):
            what = f"instance {index} of {app} is '{self._wanted((app, index))}' here and '{held.name}' on cell {held.cell}"
            yield Problem("store", what, "detach one of them, and attach it again: it gets another number")
