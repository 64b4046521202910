"""The store in memory: the fake that tests build on, held to the same contract suite as the real ones."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from agent.errors import Conflict
from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName, Space
from agent.model.rotation import Rotation
from agent.model.routes import Routes
from agent.store import routes as route_rule
from agent.store import subnets
from agent.store.changes import Changes
from agent.store.indexes import choose
from agent.store.protocols import StoredPolicy, by_name
from agent.store.refusals import (
    another_machine,
    index_taken,
    no_such_cell,
    no_such_policy,
    refuse_credentials,
    same_underlay,
    still_alive,
)
from agent.store.subnets import SubnetClaim
from agent.store.tags import LAST_TAG, TagChanges, TagClaim, applied, claim, in_use, release, resting


@dataclass(slots=True)
class SharedRecords:
    """What the stores of several cells have in common."""

    claims: dict[AppName, TagClaim] = field(default_factory=dict)
    tags: Mapping[AppName, int] = field(default_factory=lambda: MappingProxyType({}))
    policies: tuple[StoredPolicy, ...] = ()
    subnets: dict[IPv4Network, SubnetClaim] = field(default_factory=dict)
    needed: dict[int, frozenset[AppName]] = field(default_factory=dict)
    records: dict[str, CellRecord] = field(default_factory=dict)
    alive: dict[str, float] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    endpoints: dict[IPv4Address, Endpoint] = field(default_factory=dict)
    file_policies: dict[str, bytes] = field(default_factory=dict)
    trust: bytes = b""
    rotation: Rotation | None = None
    routes: Routes = field(default_factory=Routes)
    names: Mapping[str, AppName] = field(default_factory=lambda: MappingProxyType({}))
    indexes: dict[tuple[AppName, int], tuple[int, str]] = field(default_factory=dict)  # its store and name
    stores: list["MemoryStore"] = field(default_factory=list)


class MemoryStore:
    """All protocols of a store; gone with the process. `last_tag` makes exhaustion cheap to reach in tests."""

    def __init__(
        self, *, last_tag: int = LAST_TAG, clock: Callable[[], float] = time.time, shared: SharedRecords | None = None
    ) -> None:
        self.changes = Changes()
        self._last_tag = last_tag
        self._clock = clock
        self._all = shared or SharedRecords()
        self._all.stores.append(self)
        self._name = ""
        self._published: tuple[Endpoint, ...] = ()
        self._shown: tuple[object, Mapping[str, bytes]] = (None, {})
        self._departed: set[IPv4Address] = set()
        self._claimed: set[tuple[AppName, int]] = set()

    def beside(self) -> "MemoryStore":
        """Another cell's store, of the same records."""
        return MemoryStore(last_tag=self._last_tag, clock=self._clock, shared=self._all)

    def lapse(self) -> None:
        """This cell's lease runs out."""
        self._all.alive.pop(self._name, None)
        self._set_cells()

    async def catch_up(self) -> None:
        """See SharedStore. Every change is seen at once."""

    async def tags(self) -> Mapping[AppName, int]:
        """See TagStore."""
        return self._all.tags

    async def resting_apps(self, *, now: float) -> frozenset[AppName]:
        """See TagStore."""
        return resting(self._all.claims, now=now)

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        """See TagStore."""
        if not all(app in self._all.tags for app in apps):
            self._change_tags(claim(self._all.claims, apps, now=now, last=self._last_tag))
        return {app: self._all.tags[app] for app in apps}

    async def release_tags(self, apps: Collection[AppName], *, now: float) -> None:
        """See TagStore."""
        others = [needed for store, needed in self._all.needed.items() if store != id(self)]
        self._change_tags(release(self._all.claims, set(apps).difference(*others), now=now))

    async def await_return(self) -> None:
        """See SharedStore. It has no outages."""

    async def refer(self, apps: Collection[AppName]) -> None:
        """See SharedStore."""
        self._all.needed[id(self)] = frozenset(apps)

    async def policies(self) -> tuple[StoredPolicy, ...]:
        """See PolicyStore."""
        return self._all.policies

    async def apply_policies(self, policies: Collection[StoredPolicy], *, writer: StoreCredentials | None = None) -> None:
        """See PolicyStore."""
        refuse_credentials(writer)
        self._set_policies(by_name(self._all.policies) | by_name(policies))

    async def delete_policy(self, name: str, *, writer: StoreCredentials | None = None) -> None:
        """See PolicyStore."""
        refuse_credentials(writer)
        held = by_name(self._all.policies)
        if name not in held:
            raise no_such_policy(name, known=held)
        del held[name]
        self._set_policies(held)

    async def accept_loss(self, *, writer: StoreCredentials | None = None) -> tuple[str, ...]:
        """See PolicyStore. Nothing is held here."""
        refuse_credentials(writer)
        return ()

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
        """See CellStore."""
        claims = self._all.subnets
        mine = subnets.choose(claims, cell, network=network, cell_prefix=cell_prefix, now=now)
        if mine not in claims or claims[mine] != SubnetClaim(cell, claims[mine].name):
            for subnet in [each for each, held in claims.items() if held.cell == cell]:
                del claims[subnet]
            claims[mine] = SubnetClaim(cell)
            self._announce()
        return mine

    async def announce(self, record: CellRecord) -> None:
        """See CellStore."""
        records, alive = self._all.records, self._all.alive
        held = records.get(record.name)
        if held is not None and held.id != record.id:
            raise another_machine(held)
        for other in records.values():
            if other.underlay == record.underlay and other.id != record.id and other.name in alive:
                raise same_underlay(other)
        for old in [each.name for each in records.values() if each.id == record.id and each.name != record.name]:
            records.pop(old)
            alive.pop(old, None)
        self._name, records[record.name] = record.name, record
        alive.setdefault(record.name, self._clock())
        self._all.subnets[record.subnet] = SubnetClaim(record.id, record.name)
        self._set_cells()

    async def cells(self) -> tuple[Cell, ...]:
        """See CellStore."""
        return self._all.cells

    async def living(self) -> Mapping[str, CellRecord | None]:
        """See CellStore."""
        return {name: self._all.records.get(name) for name in sorted(self._all.alive)}

    async def remove_cell(self, name: str, *, now: float, writer: StoreCredentials | None = None) -> None:
        """See CellStore."""
        refuse_credentials(writer)
        if name not in self._all.records:
            raise no_such_cell(name, known=self._all.records)
        if name in self._all.alive:
            raise still_alive(name)
        record = self._all.records.pop(name)
        for store in self._all.stores:
            if store._name == name:
                self._all.needed.pop(id(store), None)
                for claim in [each for each, (by, _) in self._all.indexes.items() if by == id(store)]:
                    del self._all.indexes[claim]
        self._all.subnets[record.subnet] = replace(self._all.subnets[record.subnet], released=now)
        self._set_cells()

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        """See CellStore."""
        self._published = tuple(endpoints)
        self._set_cells()

    async def publish_policies(self, policies: bytes) -> None:
        """See CellStore."""
        self._all.file_policies[self._name] = policies

    def published_policies(self) -> Mapping[str, bytes]:
        """See CellStore."""
        known = {name: each for name, each in self._all.file_policies.items() if name in self._all.records}
        state = (known, dict(self._all.endpoints))
        if self._shown[0] != state:
            self._shown = (state, MappingProxyType(known))
        return self._shown[1]

    def endpoints(self) -> Mapping[IPv4Address, Endpoint]:
        """See CellStore."""
        return MappingProxyType(self._all.endpoints)

    def take_departed(self) -> frozenset[IPv4Address]:
        """See CellStore."""
        departed = frozenset(self._departed)
        self._departed.clear()
        return departed

    async def trust(self) -> bytes:
        """See TrustStore."""
        return self._all.trust

    async def set_trust(self, pem: bytes, *, writer: StoreCredentials | None = None) -> None:
        """See TrustStore."""
        refuse_credentials(writer)
        if pem != self._all.trust:
            self._all.trust = pem
            self._announce()

    async def rotation(self) -> Rotation | None:
        """See TrustStore."""
        return self._all.rotation

    async def set_rotation(self, rotation: Rotation | None, *, trust: bytes, writer: StoreCredentials | None = None) -> None:
        """See TrustStore."""
        self._all.rotation = rotation
        await self.set_trust(trust, writer=writer)

    def routes(self) -> Routes:
        """See RouteStore."""
        return self._all.routes

    async def claim_route(self, host: str, space: Space) -> None:
        """See RouteStore."""
        self._change_routes(route_rule.claim(self._all.routes, host, space))

    async def map_route(self, host: str, app: AppName, *, writer: StoreCredentials | None = None) -> None:
        """See RouteStore."""
        refuse_credentials(writer)
        self._change_routes(route_rule.mapped(self._all.routes, host, app))

    async def unmap_route(self, host: str, app: AppName | None = None, *, writer: StoreCredentials | None = None) -> None:
        """See RouteStore."""
        refuse_credentials(writer)
        freed = app is None and host in self._all.names
        changes = {} if freed and host not in self._all.routes else route_rule.unmapped(self._all.routes, host, app)
        if freed:
            self._all.names = MappingProxyType({name: app for name, app in self._all.names.items() if name != host})
        self._change_routes(changes, beside=freed)

    def _change_routes(self, changes: route_rule.Changes, *, beside: bool = False) -> None:
        before, self._all.routes = self._all.routes, self._all.routes.after(changes)
        if beside or before is not self._all.routes:
            self._announce()

    async def claim_names(self, names: Mapping[str, AppName]) -> None:
        """See RouteStore."""
        if not names.keys() <= self._all.names.keys():
            self._all.names = MappingProxyType({**names, **self._all.names})
            self._announce()

    def claimed_names(self) -> Mapping[str, AppName]:
        """See RouteStore."""
        return self._all.names

    async def claim_index(self, app: AppName, *, name: str, wanted: int | None, avoid: Collection[int]) -> int:
        """See IndexStore."""

        def holder(index: int) -> Conflict | None:
            mine = (id(self), name)
            store, other = self._all.indexes.get((app, index), mine)
            return None if (store, other) == mine else index_taken(app, index, by=f"'{other}'")

        index = choose(app, wanted=wanted, avoid=avoid, holder=holder)
        self._all.indexes[app, index] = (id(self), name)
        self._claimed_now(app, index)
        return index

    def _claimed_now(self, app: AppName, index: int) -> None:
        for store in self._all.stores:
            store._claimed.add((app, index))

    def set_reserved(self, indexes: Mapping[tuple[AppName, int], str]) -> None:
        """See IndexStore. Each claim is told what to avoid."""

    def claimant(self, app: AppName, index: int) -> str | None:
        """See IndexStore."""
        by, _ = self._all.indexes.get((app, index), (0, ""))
        return next((store._name for store in self._all.stores if id(store) == by), None)

    def take_claimed(self) -> frozenset[tuple[AppName, int]]:
        """See IndexStore."""
        claimed = frozenset(self._claimed)
        self._claimed.clear()
        return claimed

    async def release_index(self, app: AppName, index: int, *, name: str) -> None:
        """See IndexStore."""
        if self._all.indexes.get((app, index)) == (id(self), name):
            del self._all.indexes[app, index]
            self._claimed_now(app, index)

    def _announce(self) -> None:
        for store in self._all.stores:
            store.changes.announce()

    def _set_cells(self) -> None:
        """Work out which cells are there and what runs on them, and what has departed."""
        before, alive = dict(self._all.endpoints), self._all.alive
        there = sorted(self._all.records.items())
        living = {record.underlay for name, record in there if name in alive}
        cells = tuple(Cell(each, alive.get(name)) for name, each in there if name in alive or each.underlay not in living)
        published = [each for store in self._all.stores if store._name in alive for each in store._published]
        self._all.endpoints.clear()
        self._all.endpoints.update({each.address: each for each in published})
        after = self._all.endpoints
        gone = [each for address, each in before.items() if address not in after or after[address].app != each.app]
        for store in self._all.stores:
            store._departed.update(each.address for each in gone if each.cell != store._name)
        if cells != self._all.cells or before != after:
            self._all.cells = cells if cells != self._all.cells else self._all.cells
            self._announce()

    def _change_tags(self, changes: TagChanges) -> None:
        self._all.claims = applied(self._all.claims, changes)
        tags = in_use(self._all.claims)
        if tags != self._all.tags:
            self._all.tags = MappingProxyType(tags)
            self._announce()

    def _set_policies(self, held: dict[str, StoredPolicy]) -> None:
        policies = tuple(sorted(held.values()))
        if policies != self._all.policies:
            self._all.policies = policies
            self._announce()
