"""The store of many cells. Reads are served from the mirror, so that an outage of etcd changes nothing on the cell; changes are
transactions that say what they expect to find, made again from a fresh reading when another cell was quicker.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from types import MappingProxyType

from agent.errors import Conflict, InvalidInput, Unavailable
from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.names import AppName
from agent.store import subnets
from agent.store.changes import Changes
from agent.store.etcd import data_loss, records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.cells import Census
from agent.store.etcd.client import EtcdClient, put, remove, unchanged
from agent.store.etcd.disk_copy import Kept
from agent.store.etcd.heartbeat import Standing, Timing
from agent.store.etcd.keys import Keys
from agent.store.etcd.mirror import Mirror
from agent.store.etcd.policies_and_tags import View
from agent.store.etcd.recovering import Recovering
from agent.store.etcd.removing import removal
from agent.store.etcd.transactions import Plan, claim_plans
from agent.store.etcd.whole import whole
from agent.store.protocols import Listener, StoredPolicy, by_name, no_such_policy
from agent.store.subnets import SubnetClaim
from agent.store.tags import LAST_TAG, Claims, TagClaim, claim, release

FOLLOWS = 0.5  # seconds until the watch must have brought what was there before ours
NAMED = 3  # records that make no sense, by their keys
TRIES = 60  # of one change: another cell must have been quicker each time


def _nonsense(malformed: Mapping[str, str]) -> list[tuple[str, str]]:
    """The first few, as whoever may write below the prefix can write many, in words that no terminal takes for commands."""
    hint = "somebody else has written it; `etcdctl get` shows it"
    found = [(_printable(f"{key} in etcd makes no sense: {why}"), hint) for key, why in islice(malformed.items(), NAMED)]
    more = len(malformed) - len(found)
    return [*found, (f"{more} more records in etcd make no sense", hint)] if more else found


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


class EtcdStore:
    """A Store. `run` must be running: it keeps the copy current. `last_tag` makes exhaustion cheap to reach in tests."""

    def __init__(
        self,
        client: EtcdClient,
        *,
        prefix: str,
        cell: str,
        kept: Kept | None = None,
        last_tag: int = LAST_TAG,
        clock: Callable[[], float] = time.time,
        overlay: IPv4Network | None = None,
        timing: Timing = Timing(),  # noqa: B008 - a frozen value
    ) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._cell = cell
        self._mine: frozenset[AppName] = frozenset()
        self._view = View(self._keys)
        self._census = Census(self._keys, mine=cell, overlay=overlay)
        self._last_tag = last_tag
        self._changes = Changes()
        self._tags: Mapping[AppName, int] = MappingProxyType({})
        self._claims: Claims = {}
        self._policies: tuple[StoredPolicy, ...] = ()
        self._tag_changes = 0  # of the view, that `_tags` include
        self._stale = False
        self._kept = kept
        copy, held = (kept and kept.load()) or (None, None)
        self._recovering = Recovering(client, self._keys, cell=cell, now=clock, last_tag=last_tag)
        self.mirror = Mirror(client, self._keys, changed=self._news, recovering=self._recovering, copy=copy, held=held)
        if copy is not None:
            in_force = self.mirror.in_force
            self._stale = self._view.update(in_force, in_force)
            self._census.update(in_force, in_force)
            self._census.take_departed()
        self._standing = Standing(client, self.mirror, keys=self._keys, census=self._census, clock=clock, timing=timing)

    async def run(self) -> None:
        """Follow etcd, and keep up what was announced there, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.mirror.run())
            tasks.create_task(self._standing.run())

    def problems(self) -> tuple[tuple[str, str], ...]:
        """What is wrong, each with a hint."""
        found = [] if self.mirror.problem is None else [(self.mirror.problem.what, self.mirror.problem.hint)]
        found += data_loss.told(self.mirror.held, self._keys)
        found += ((clash, "`cellnet policy accept-loss` ends this message") for clash in self._recovering.clashes)
        standing = self._standing.problem
        if isinstance(standing, Conflict):
            found.append((standing.what, standing.hint))
        return (*found, *_nonsense(self.malformed))

    @property
    def malformed(self) -> Mapping[str, str]:
        """Key -> why, of the records that make no sense and are left out."""
        return self._view.malformed | self._census.malformed

    @property
    def revision(self) -> int:
        """See Store."""
        return self._changes.revision

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """See Store."""
        return self._changes.subscribe(listener)

    async def catch_up(self) -> None:
        """See Store."""
        await self.mirror.catch_up()

    async def tags(self) -> Mapping[AppName, int]:
        """See Store."""
        self._refreshed()
        if self.mirror.problem is None:
            return self._tags
        # What another cell gave back before it heard of us cannot be claimed now; but for a week the number is still the app's.
        held = {app: self._claims[app].tag for app in self._mine - self._tags.keys() if app in self._claims}
        return MappingProxyType({**self._tags, **held}) if held else self._tags

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        """See Store. An app that has its tag needs no etcd."""
        held = await self.tags()
        if all(app in held for app in apps):
            return {app: held[app] for app in apps}
        given: dict[AppName, TagClaim] = {}

        def change(before: Claims) -> dict[AppName, TagClaim]:
            given.clear()
            given.update(claim(before, apps, now=now, last=self._last_tag))
            return dict(given)

        await self._change_claims(change)
        return {app: given[app].tag for app in apps}  # a cell that does not need them may have given them back already

    async def release_tags(self, apps: Collection[AppName], *, now: float) -> None:
        """See Store."""
        if self._leaving(apps):
            await self._change_claims(lambda before: release(before, self._leaving(apps), now=now))

    def _leaving(self, apps: Collection[AppName]) -> list[AppName]:
        """Those of `apps` that have a tag and that no other cell needs."""
        mine = self._keys.needed(self._cell)
        return [app for app in apps if app in self._view.in_use and not self._view.is_needed(app, beside=mine)]

    async def refer(self, apps: Collection[AppName]) -> None:
        """See Store. Known here at once, even if etcd does not answer."""
        self._mine, self._stale = frozenset(apps), True
        key = self._keys.needed(self._cell)
        if self._view.needed.get(key, frozenset()) != self._mine:
            await self._settle(lambda: [([], [put(key, records.needed_data(apps))])])

    async def policies(self) -> tuple[StoredPolicy, ...]:
        """See Store."""
        self._refreshed()
        return self._policies

    async def apply_policies(self, policies: Collection[StoredPolicy]) -> None:
        """See Store."""
        writes = [put(self._keys.policy(policy.name), records.policy_data(policy)) for policy in by_name(policies).values()]
        if writes:
            do = whole(writes)
            await self._settle(lambda: [([], do)])

    async def delete_policy(self, name: str) -> None:
        """See Store."""
        key = self._keys.policy(name)

        def plan() -> list[Plan]:
            if name not in self._view.policies and key not in self.mirror.held.values:
                raise no_such_policy(name, known=self._view.policies)
            return [([self._unchanged(key)], [remove(key)])]

        await self._settle(plan)

    async def accept_loss(self) -> tuple[str, ...]:
        """See Store."""
        names = data_loss.held_policies(self.mirror.held, self._keys)

        def plan() -> list[Plan]:
            there = self.mirror.copy.values
            said = data_loss.accepted(there, self._keys)
            return [] if said.everything else [data_loss.giving_up(replace(said, everything=True), self._keys, there)]

        await self._settle(plan)
        self._recovering.clashes = ()
        return tuple(names)

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
        """See Store."""
        got = subnets.held(self._census.allotment.claims, cell, network=network, cell_prefix=cell_prefix)
        if got is None and self.mirror.problem is not None:  # at the start nobody else reads, and the disk may know too little
            await self._read()
            got = subnets.held(self._census.allotment.claims, cell, network=network, cell_prefix=cell_prefix)
        if got is not None:
            return got
        chosen: list[IPv4Network] = []

        def plan() -> list[Plan]:
            claims = self._census.allotment.claims
            mine = subnets.choose(claims, cell, network=network, cell_prefix=cell_prefix, now=now)
            chosen[:] = [mine]
            held = claims.get(mine)
            if held is not None and held.cell == cell:
                return []
            key = self._keys.subnet(mine)
            gone = [self._keys.subnet(subnet) for subnet, claim in claims.items() if claim.cell == cell]
            data = records.subnet_data(mine, SubnetClaim(cell))
            return [([self._unchanged(key)], [*map(remove, (each for each in gone if each != key)), put(key, data)])]

        await self._settle(plan)
        return chosen[0]

    async def announce(self, record: CellRecord) -> None:
        """See Store."""
        await self._standing.announce(record)

    async def cells(self) -> tuple[Cell, ...]:
        """See Store."""
        return self._census.cells()

    async def remove_cell(self, name: str, *, now: float) -> None:
        """See Store."""
        await self._settle(lambda: [removal(name, keys=self._keys, census=self._census, unchanged=self._unchanged, now=now)])

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        """See Store."""
        await self._standing.publish(endpoints)

    def endpoints(self) -> Mapping[IPv4Address, Endpoint]:
        """See Store."""
        return self._census.endpoints

    def take_departed(self) -> frozenset[IPv4Address]:
        """See Store."""
        return self._census.take_departed()

    async def trust(self) -> bytes:
        """See Store."""
        held = self.mirror.in_force.get(self._keys.trust)
        return b"" if held is None else held.data

    async def set_trust(self, pem: bytes) -> None:
        """See Store."""
        if pem != await self.trust():
            await self._commit_all([([], [put(self._keys.trust, pem)])])

    async def _change_claims(self, change: Callable[[Claims], dict[AppName, TagClaim]]) -> None:
        """In transactions of as many tags as one takes. If numbers run out, they do before the first of them."""

        def plan() -> list[Plan]:
            self._refreshed()
            return claim_plans(self._claims, change(self._claims), keys=self._keys, values=self.mirror.copy.values)

        await self._settle(plan)

    def _unchanged(self, key: str) -> rpc.Compare:
        return unchanged(key, self.mirror.copy.values.get(key))

    async def _settle(self, plan: Callable[[], list[Plan]]) -> None:
        """Commit what `plan` makes of the copy; if etcd has it otherwise, or the plan cannot be, of what is read anew.

        Raises Conflict when other cells were quicker each time, and what `plan` raises.
        """
        if self.mirror.problem is not None and self.mirror.copy.revision:
            raise self.mirror.problem  # it is tried all the time; nobody has to wait for one try more
        fresh = False
        for attempt in range(TRIES):
            known, lost = self.mirror.copy.revision, False
            if self.mirror.problem is None or fresh:
                try:
                    plans = plan()
                except (Conflict, InvalidInput):
                    if fresh:
                        raise
                else:
                    if await self._commit_all(plans):
                        return
                    lost = True
            await asyncio.sleep(random.uniform(0, min(attempt * 0.01, 0.2)))  # noqa: S311 - or all come again at once
            # who was quicker is told by the watch: a thousand cells that give one app its tag must not read all there is
            fresh = not (lost and await self.mirror.has_followed(known, seconds=FOLLOWS))
            if fresh:
                await self._read()
        raise Conflict("other cells changed the same records again and again", hint="try again")

    async def _read(self) -> None:
        await self.mirror.refresh()
        if self.mirror.lost is not None:
            raise Unavailable(self.mirror.lost, hint="docs/store.md tells what to do")

    async def _commit_all(self, plans: list[Plan]) -> bool:
        """All of them, or up to the first that etcd has otherwise."""
        revision: int | None = 0
        for when, do in plans:
            there, held = self.mirror.copy.values, self.mirror.held.values
            also = data_loss.deleting(do, held=held, keys=self._keys, there=there)
            when = [*when, *also[0], *data_loss.same_data(there, self._keys)]
            revision = await self._client.commit(when=when, do=[*do, *also[1]])
            if revision is None:
                return False
        if revision:
            await self.mirror.reach(revision)
        return True

    def _news(self, changed: frozenset[str]) -> None:
        if self._kept is not None:
            self._kept.keep(changed, self.mirror.copy, self.mirror.held)
        in_force, counted = self.mirror.in_force, False
        if self._view.update(changed, in_force) or not changed:
            self._stale = counted = True
        if self._census.update(changed, in_force) or self._keys.trust in changed or counted:
            self._changes.announce()
        self._standing.note(changed)

    def _refreshed(self) -> None:
        """Equal records stay the same objects."""
        if self._stale:
            view = self._view
            self._claims, self._policies = view.valid, view.all_policies()
            if view.tag_changes != self._tag_changes:
                tags, self._tag_changes = dict(view.in_use), view.tag_changes
                self._tags = self._tags if tags == self._tags else MappingProxyType(tags)
            self._stale = False
