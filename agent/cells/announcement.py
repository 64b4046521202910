"""What this cell announces to the others: its address, the roots that it uses, what runs on it. Beside the loop."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

from agent import log
from agent.complaint import Complaint, Complaints, follow_changes
from agent.errors import Unavailable
from agent.model.attachment import Attachment, Phase
from agent.model.cell import CellRecord, Endpoint, RootsInUse
from agent.model.routes import RouteDomains
from agent.model.status import Part, Problem, as_problems
from agent.store.protocols import CellStore


class Announcement(Part):
    """`record` is made at each turn, of the address, which a host may change, and of what else the cell says of itself then.

    What fails is announced again until the store has it. A store of many cells may write it later all the same: what was given
    to it last counts, not what it took last.
    """

    def __init__(
        self, store: CellStore, record: Callable[[IPv4Address], CellRecord], *, cell: str, domains: RouteDomains
    ) -> None:
        self._store = store
        self._cell = cell
        self._domains = domains
        self._record = record
        self.roots = RootsInUse()
        self._drained = False
        self._wanted: CellRecord | None = None
        self._given: CellRecord | None = None
        self._announced: CellRecord | None = None
        self._made: dict[str, tuple[Attachment, Endpoint]] = {}  # of those that are attached, by name
        self._endpoints: frozenset[Endpoint] = frozenset()
        self._published: frozenset[Endpoint] | None = None
        self._attachments: tuple[Attachment, ...] = ()
        self._ready: tuple[Attachment, ...] = ()
        self._changed = asyncio.Event()
        self._complaints = Complaints(log.get("announcement"), failed="not_announced", recovered="announced_again")

    @property
    def problem(self) -> Complaint | None:
        """Why the store does not have it yet."""
        return self._complaints.standing.get(None)

    def problems(self) -> tuple[Problem, ...]:
        """Why the store did not take it. That the store does not answer, the store itself reports."""
        return () if isinstance(self.problem, Unavailable) else as_problems("cell", self.problem)

    @property
    def announced(self) -> CellRecord | None:
        """What the store has of this cell, as far as it was written by this agent."""
        return self._announced

    async def announce(self) -> None:
        """Announce the cell and its address. Raises as Store.announce: Conflict where its name is another machine's."""
        record = self._wanted
        if record is not None and (record, record) != (self._announced, self._given):
            self._given = record
            await self._store.announce(record)
            self._announced = record

    def update(
        self, attachments: tuple[Attachment, ...], *, ready: tuple[Attachment, ...], underlay: IPv4Address | None
    ) -> None:
        """What is so now; cheap where nothing changed. `ready` are those that names lead to."""
        if underlay is not None:
            self._want(replace(self._record(underlay), roots=self.roots, drained=self._drained))
        if attachments == self._attachments and ready == self._ready:
            return
        self._attachments, self._ready = attachments, ready
        before, here = self._made, {each.name: each for each in attachments if each.phase is Phase.ATTACHED}
        named = {each.name for each in ready}
        same = {
            name
            for name, each in here.items()
            if name in before and before[name][0] is each and before[name][1].ready is (name in named)
        }
        fresh = {name: (each, self._endpoint(each, name in named)) for name, each in here.items() if name not in same}
        gone = {endpoint for name, (_, endpoint) in before.items() if name not in same}
        self._made = {name: each for name, each in before.items() if name in same} | fresh
        self._endpoints = (self._endpoints - gone) | {endpoint for _, endpoint in fresh.values()}
        if self._endpoints != self._published:
            self._changed.set()

    def set_roots(self, roots: RootsInUse) -> None:
        """What is so now of its roots; cheap where nothing changed."""
        if roots == self.roots:
            return
        self.roots = roots
        if self._wanted is not None:
            self._want(replace(self._wanted, roots=roots))

    def set_drained(self, drained: bool) -> None:
        """Whether all that runs here is on its way out from now on."""
        self._drained = drained
        if self._wanted is not None:
            self._want(replace(self._wanted, drained=drained))

    def _want(self, record: CellRecord) -> None:
        if record != self._wanted:
            self._wanted = record
            self._changed.set()

    def _endpoint(self, each: Attachment, ready: bool) -> Endpoint:
        """Without routes that may no longer be: the other cells would not believe it."""
        routes = self._domains.allowed(each.routes)
        return Endpoint(self._cell, each.name, each.app, each.instance, each.address, each.ports, routes, ready=ready)

    async def run(self) -> None:
        """Announce what changes. Ends only by cancellation."""
        self._changed.set()
        await follow_changes(self._changed, self._announce_all, complaints=self._complaints)

    async def _announce_all(self) -> None:
        await self.announce()
        endpoints = self._endpoints
        if self._announced is not None and endpoints != self._published:
            self._published = None
            await self._store.publish(endpoints)
            self._published = endpoints
