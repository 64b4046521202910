"""The store of many cells. Reads are served from the mirror, so that an outage of etcd changes nothing on the cell. Changes are
transactions that compare what they expect to find, made again from a fresh reading when another cell was quicker.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from types import MappingProxyType

from agent.errors import Conflict, HostRefused, Unavailable
from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.rotation import Rotation
from agent.model.routes import RouteDomains
from agent.model.status import Part, Problem, as_problems
from agent.store import subnets
from agent.store.changes import Changes
from agent.store.etcd import records
from agent.store.etcd.cells import CellsAndEndpoints
from agent.store.etcd.client import EtcdClient, put, remove
from agent.store.etcd.commits import Commits
from agent.store.etcd.disk_copy import DiskCopy, FirstSeen
from agent.store.etcd.heartbeat import Heartbeat, Timing
from agent.store.etcd.keys import Keys
from agent.store.etcd.loss.acceptance import accepted_loss, plan_to_accept
from agent.store.etcd.loss.held import held_policies, held_problems
from agent.store.etcd.loss.recovery import Recovery
from agent.store.etcd.mirror import Mirror
from agent.store.etcd.names.names import Names
from agent.store.etcd.names.view import RoutesAndNames
from agent.store.etcd.operator import client_of
from agent.store.etcd.policies_and_tags import PoliciesAndTags
from agent.store.etcd.questions import EtcdQuestions
from agent.store.etcd.room import EtcdRoom
from agent.store.etcd.summaries import EtcdSummaries
from agent.store.etcd.trail import EtcdTrail
from agent.store.etcd.transactions import Plan, joined, nested, tag_plans
from agent.store.protocols import StoredPolicy, by_name
from agent.store.refusals import no_such_policy
from agent.store.subnets import SubnetClaim
from agent.store.tags import LAST_TAG, Claims, TagChanges, claim, release, resting
from agent.wording import printable

NAMED = 1_000  # malformed records, by their keys


class EtcdStore(Part):
    """All protocols of a store, as long as `run` keeps the copy current. `last_tag` makes exhaustion cheap in tests."""

    def __init__(
        self,
        client: EtcdClient,
        *,
        prefix: str,
        cell: str,
        disk_copy: DiskCopy | None = None,
        last_tag: int = LAST_TAG,
        clock: Callable[[], float] = time.time,
        overlay: IPv4Network | None = None,
        domains: RouteDomains | None = None,
        timing: Timing = Timing(),  # noqa: B008 - a frozen value
    ) -> None:
        self.changes = Changes()
        self._client = client
        self._keys = Keys(prefix)
        self._cell = cell
        self._underlay: IPv4Address | None = None  # that was announced last
        self._needed: frozenset[AppName] = frozenset()  # by this cell
        self._records = PoliciesAndTags(self._keys)
        self._cells = CellsAndEndpoints(self._keys, cell=cell, overlay=overlay, domains=domains)
        self._last_tag = last_tag
        self._tags: Mapping[AppName, int] = MappingProxyType({})
        self._claims: Claims = {}
        self._policies: tuple[StoredPolicy, ...] = ()
        self._tag_changes = 0  # that `_tags` include
        self._stale = False
        self._disk_copy = disk_copy
        copy, held = (disk_copy and disk_copy.load()) or (None, None)
        self._names = RoutesAndNames(self._keys, holders=self._cells.holders, domains=domains)
        self._recovery = Recovery(
            client, self._keys, cell=cell, now=clock, last_tag=last_tag, left_out=lambda: self._names.left_out
        )
        wait = self._names.may_wait
        self.mirror = Mirror(
            client, self._keys, changed=self._follow, may_wait=wait, recovery=self._recovery, copy=copy, held=held
        )
        self._commits = Commits(client, self.mirror, keys=self._keys)
        self.names = Names(self._commits, self._names, cells=self._cells, changes=self.changes, cell=cell, pause=timing.again)
        self._heartbeat = Heartbeat(client, self.mirror, keys=self._keys, cells=self._cells, clock=clock, timing=timing)
        self.trail = EtcdTrail(client, self._keys, cell=cell, clock=clock)
        self._room = EtcdRoom(client, every=2 * timing.check)
        self.questions = EtcdQuestions(client, self._keys, cell=cell, has_record=lambda name: name in self._cells.records)
        self.summaries = EtcdSummaries(client, self._keys, cell=cell, lease=lambda: self._heartbeat.lease)
        if copy is not None:
            self._begin_with(disk_copy.load_first() if disk_copy else FirstSeen())

    def _begin_with(self, first: FirstSeen) -> None:
        """With what was kept on the disk."""
        in_force = self.mirror.in_force
        self._stale = self._records.update(in_force, in_force)
        self._cells.update(in_force, in_force, first=first.underlays)
        self._cells.take_departed()
        self.names.update(frozenset(in_force), first=first.claims)

    async def run(self) -> None:
        """Follow etcd, and keep up what was announced there, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.mirror.run())
            tasks.create_task(self._heartbeat.run())
            tasks.create_task(self.names.run())
            tasks.create_task(self._room.run())

    def problems(self) -> tuple[Problem, ...]:
        """What keeps the cells from knowing of each other."""
        unwritten = self._heartbeat.problem
        return (
            *as_problems("store", self.mirror.problem),
            *held_problems(self.mirror.held, self._keys),
            *(Problem("store", clash, "`cellnet policy accept-loss` ends this message") for clash in self._recovery.clashes),
            *as_problems("store", unwritten if isinstance(unwritten, Conflict | HostRefused) else None),
            *(
                Problem("store", flood, "look at that cell; docs/store.md says how to take its rights away")
                for flood in (*self._cells.floods(), *self.names.floods())
            ),
            *self._room.problems(),
            *self.names.problems(),
            *_malformed_problems(self._senseless()),
        )

    @property
    def malformed(self) -> Mapping[str, str]:
        """Key -> why, of the records that are left out."""
        return self._senseless() | self._names.left_out

    def _senseless(self) -> dict[str, str]:
        return self._records.malformed | self._cells.malformed | self._malformed_rotation() | self.names.malformed

    def _malformed_rotation(self) -> dict[str, str]:
        held = self.mirror.in_force.get(self._keys.rotation)
        try:
            if held is not None:
                records.decode_rotation(held)
        except ValueError as error:
            return {self._keys.rotation: str(error)}
        return {}

    async def catch_up(self) -> None:
        """See SharedStore."""
        await self.mirror.catch_up()

    async def await_return(self) -> None:
        """See SharedStore."""
        await self._commits.await_return()

    async def tags(self) -> Mapping[AppName, int]:
        """See TagStore."""
        self._refresh()
        if self.mirror.problem is None:
            return self._tags
        # A tag that another cell gave back cannot be claimed in an outage; but for a week the number is still the app's.
        held = {app: self._claims[app].tag for app in self._needed - self._tags.keys() if app in self._claims}
        return MappingProxyType({**self._tags, **held}) if held else self._tags

    async def resting_apps(self, *, now: float) -> frozenset[AppName]:
        """See TagStore."""
        self._refresh()
        return resting(self._claims, now=now)

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        """See TagStore. An app that has its tag needs no etcd."""
        held = await self.tags()
        if all(app in held for app in apps):
            return {app: held[app] for app in apps}
        given: dict[AppName, int] = {}

        def change(before: Claims) -> TagChanges:
            changes = claim(before, apps, now=now, last=self._last_tag)
            given.update({app: (changes.get(app) or before[app]).tag for app in apps})
            return changes

        await self._change_tags(change)
        return given  # a cell that does not need them may have given them back already

    async def release_tags(self, apps: Collection[AppName], *, now: float) -> None:
        """See TagStore."""
        if self._releasable(apps):
            await self._change_tags(lambda before: release(before, self._releasable(apps), now=now))

    def _releasable(self, apps: Collection[AppName]) -> list[AppName]:
        """Those of `apps` that have a tag and that no other cell needs."""
        mine = self._keys.needed(self._cell)
        return [app for app in apps if app in self._records.in_use and not self._records.is_needed(app, beside=mine)]

    async def refer(self, apps: Collection[AppName]) -> None:
        """See SharedStore. It counts here at once, even if etcd does not answer."""
        self._needed, self._stale = frozenset(apps), True
        key = self._keys.needed(self._cell)
        if self._records.needed.get(key, frozenset()) != self._needed:
            await self._commits.settle(lambda: [([], [put(key, records.encode_needed(apps))])])

    async def policies(self) -> tuple[StoredPolicy, ...]:
        """See PolicyStore."""
        self._refresh()
        return self._policies

    async def apply_policies(self, policies: Collection[StoredPolicy], *, writer: StoreCredentials | None = None) -> None:
        """See PolicyStore."""
        writes = [put(self._keys.policy(policy.name), records.encode_policy(policy)) for policy in by_name(policies).values()]
        if writes:
            await self.await_return()
            do = nested(writes)
            await self._commits.settle(lambda: [([], do)], writer=writer)

    async def delete_policy(self, name: str, *, writer: StoreCredentials | None = None) -> None:
        """See PolicyStore."""
        key = self._keys.policy(name)
        await self.await_return()

        def plan() -> list[Plan]:
            if name not in self._records.policies and key not in self.mirror.held.values:
                raise no_such_policy(name, known=self._records.policies)
            return [([self._commits.unchanged(key)], [remove(key)])]

        await self._commits.settle(plan, writer=writer)

    async def accept_loss(self, *, writer: StoreCredentials | None = None) -> tuple[str, ...]:
        """See PolicyStore."""
        await self.await_return()
        names = held_policies(self.mirror.held, self._keys)

        def plan() -> list[Plan]:
            there = self.mirror.copy.values
            accepted = accepted_loss(there, self._keys)
            everything = replace(accepted, everything=True)
            return [] if accepted.everything else [plan_to_accept(everything, self._keys, there)]

        await self._commits.settle(plan, writer=writer)
        self._recovery.clashes = ()
        return tuple(names)

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
        """See CellStore."""
        got = subnets.held(self._cells.subnets.claims, cell, network=network, cell_prefix=cell_prefix)
        if got is None and self.mirror.problem is not None:  # at the start the disk may know too little
            await self._commits.read()
            got = subnets.held(self._cells.subnets.claims, cell, network=network, cell_prefix=cell_prefix)
        if got is not None:
            return got
        chosen: list[IPv4Network] = []

        def plan() -> list[Plan]:
            claims = self._cells.subnets.claims
            mine = subnets.choose(claims, cell, network=network, cell_prefix=cell_prefix, now=now)
            chosen[:] = [mine]
            held = claims.get(mine)
            if held is not None and held.cell == cell:
                return []
            key = self._keys.subnet(mine)
            gone = [self._keys.subnet(subnet) for subnet, claim in claims.items() if claim.cell == cell]
            data = records.encode_subnet(mine, SubnetClaim(cell))
            return [([self._commits.unchanged(key)], [*map(remove, (each for each in gone if each != key)), put(key, data)])]

        await self._commits.settle(plan)
        return chosen[0]

    async def announce(self, record: CellRecord) -> None:
        """See CellStore."""
        if self._underlay not in (None, record.underlay):
            self._client.reconnect()
        self._underlay = record.underlay
        await self._heartbeat.announce(record)

    async def cells(self) -> tuple[Cell, ...]:
        """See CellStore."""
        return self._cells.cells()

    async def living(self) -> Mapping[str, CellRecord | None]:
        """See CellStore."""
        return self._cells.giving_signs()

    async def remove_cell(self, name: str, *, now: float, writer: StoreCredentials | None = None) -> None:
        """See CellStore."""
        await self.await_return()
        await self._commits.settle(
            lambda: [self._cells.removal(name, unchanged=self._commits.unchanged, now=now)], writer=writer
        )
        with contextlib.suppress(Conflict, HostRefused, Unavailable):  # they lapse in a minute anyway
            await self._commits.settle(lambda: joined(self.names.indexes.plans_to_forget(name)), writer=writer)

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        """See CellStore."""
        self.names.set_running(endpoints)
        await self._heartbeat.publish(endpoints)

    async def publish_policies(self, policies: bytes) -> None:
        """See CellStore."""
        await self._heartbeat.publish_policies(policies)

    def published_policies(self) -> Mapping[str, bytes]:
        """See CellStore."""
        return self._cells.published_policies()

    def endpoints(self) -> Mapping[IPv4Address, Endpoint]:
        """See CellStore."""
        return self._cells.endpoints

    def take_departed(self) -> frozenset[IPv4Address]:
        """See CellStore."""
        return self._cells.take_departed()

    async def trust(self) -> bytes:
        """See TrustStore."""
        held = self.mirror.in_force.get(self._keys.trust)
        return b"" if held is None else held.data

    async def set_trust(self, pem: bytes, *, writer: StoreCredentials | None = None) -> None:
        """See TrustStore."""
        await self.await_return()
        async with client_of(writer, cell=self._client) as client:
            if pem != await self.trust():
                await self._commits.commit_all([([], [put(self._keys.trust, pem)])], client=client)

    async def rotation(self) -> Rotation | None:
        """See TrustStore."""
        with contextlib.suppress(ValueError):
            held = self.mirror.in_force.get(self._keys.rotation)
            return None if held is None else records.decode_rotation(held)
        return None

    async def set_rotation(self, rotation: Rotation | None, *, trust: bytes, writer: StoreCredentials | None = None) -> None:
        """See TrustStore."""
        await self.await_return()
        key = self._keys.rotation
        async with client_of(writer, cell=self._client) as client:
            do = remove(key) if rotation is None else put(key, records.encode_rotation(rotation))
            await self._commits.commit_all([([], [put(self._keys.trust, trust), do])], client=client)

    async def _change_tags(self, change: Callable[[Claims], TagChanges]) -> None:
        """In transactions of as many tags as one takes. If numbers run out, they do before the first of them."""

        def plan() -> list[Plan]:
            self._refresh()
            return tag_plans(self._claims, change(self._claims), keys=self._keys, values=self.mirror.copy.values)

        await self._commits.settle(plan)

    def _follow(self, changed: frozenset[str]) -> None:
        in_force = self.mirror.in_force
        if self._records.update(changed, in_force) or not changed:
            self._stale = counts = True
        else:
            counts = self._keys.trust in changed
        counts = self._cells.update(changed, in_force) or counts
        counts = self.names.update(changed) or counts
        if counts:
            self.changes.announce()
        if self._disk_copy is not None:
            first = FirstSeen(self._cells.underlays.shared(), self._names.disputed())
            self._disk_copy.keep(changed, self.mirror.copy, self.mirror.held, first=first)
        self._heartbeat.wake_for(changed)

    def _refresh(self) -> None:
        """Equal records stay the same objects."""
        if self._stale:
            found = self._records
            self._claims, self._policies = found.valid, found.all_policies()
            if found.tag_changes != self._tag_changes:
                tags, self._tag_changes = dict(found.in_use), found.tag_changes
                self._tags = self._tags if tags == self._tags else MappingProxyType(tags)
            self._stale = False


def _malformed_problems(malformed: Mapping[str, str]) -> Iterator[Problem]:
    """Not without end, as anything that may write below the prefix can write many; with no character that a terminal obeys."""
    hint = "another program has written it; `etcdctl get` shows it"
    for key, why in islice(malformed.items(), NAMED):
        yield Problem("store", printable(f"{key} in etcd makes no sense: {why}"), hint)
    if len(malformed) > NAMED:
        yield Problem("store", f"{len(malformed) - NAMED} more records in etcd make no sense", hint)
