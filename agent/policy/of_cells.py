"""The policies of the files of all cells: this one publishes its own, and shows what the others have published.

A file governs what comes to the containers of its own cell, and what leaves them. So what a cell publishes is taken for that
alone, and only shown: nothing here is enforced, and a cell that lies misleads about its own containers.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Final

from agent import log
from agent.complaint import Complaints, follow_changes
from agent.errors import InvalidInput
from agent.model.names import AppName
from agent.model.outside import NOTHING_INSIDE, Inside
from agent.model.policy import EgressPolicy, Pattern, Policy
from agent.policy.in_force import PoliciesInForce, speaking_of
from agent.policy.packed import Unpacked, pack, unpack
from agent.policy.parties import Party
from agent.policy.rights.outside import OutsideResolver
from agent.policy.rights.resolve import PolicyResolver
from agent.reader_threads import in_reader_thread
from agent.store.protocols import CellStore

MOST_SPELLED_OUT: Final = 10_000  # policies of one cell by the apps that run there: a matrix of so many wide ones takes seconds
PAUSE: Final = 2.0  # seconds between two writes: each reaches every cell


@dataclass(slots=True)
class OneCell:
    """What is known of another cell's files: `data` as it is published, `spelled_out` for the apps that run there."""

    data: bytes
    unpacked: Unpacked
    problem: str = ""
    apps: frozenset[AppName] | None = None
    spelled_out: tuple[Policy, ...] = ()
    is_whole: bool = True


class PoliciesOfCells:
    """One per agent. `cell` is this one, `is_here` whether an app runs on it; `inside` is what is not outside."""

    def __init__(
        self,
        policies: PoliciesInForce,
        store: CellStore,
        *,
        cell: str,
        is_here: Callable[[AppName], bool],
        inside: Inside = NOTHING_INSIDE,
    ) -> None:
        self._policies = policies
        self._store = store
        self._cell = cell
        self._is_here = is_here
        self._inside = inside
        self._others: dict[str, OneCell] = {}
        self._resolvers: dict[str, tuple[PolicyResolver, OutsideResolver]] = {}
        self._seen: object = None
        self._elsewhere: tuple[Policy, ...] = ()
        self._everywhere: tuple[tuple[Policy, ...], tuple[Policy, ...], tuple[Policy, ...]] = ((), (), ())
        self._written: tuple[Policy, ...] | None = None
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._complaints = Complaints(log.get("policies"), failed="files_not_published", recovered="files_published")

    def look(self) -> None:
        """Files may have changed. Cheap, however often it is called."""
        self._changed.set()

    async def run(self) -> None:
        """Publish what changes. Ends only by cancellation."""
        self._changed.set()
        await follow_changes(self._changed, self._publish, complaints=self._complaints)

    async def _publish(self) -> None:
        policies = self._policies.from_files()
        if policies is self._written:
            return
        data = await asyncio.to_thread(pack, policies)
        await self._store.publish_policies(data)
        self._written = policies
        await asyncio.sleep(PAUSE)

    @property
    def cell(self) -> str:
        """This one."""
        return self._cell

    async def elsewhere(self) -> tuple[Policy, ...]:
        """All that other cells' files allow now, spelled out for the apps that run there: the same object while that is so."""
        await self._read()
        found = self._policies.holding(tuple(each for one in self._others.values() for each in one.spelled_out))
        if found != self._elsewhere:
            self._elsewhere = found
        return self._elsewhere

    async def everywhere(self) -> tuple[Policy, ...]:
        """The same after what is in force on this cell; the same object, too, while nothing changes."""
        here, elsewhere = await self._policies.in_force(), await self.elsewhere()
        if self._everywhere[0] is not here or self._everywhere[1] is not elsewhere:
            self._everywhere = (here, elsewhere, here + elsewhere)
        return self._everywhere[2]

    async def speaking(self, source: Party, *, to: Party) -> Mapping[str, tuple[Policy, ...]]:
        """By each cell that judges it, the policies by which `source` may reach `to` there; the store's hold on all of them.

        It is that of the destination or, of what leaves the overlay, of the source: none where that runs nowhere. Raises as
        PoliciesInForce.check.
        """
        judged, here = to if isinstance(to, AppName) else source, await self._policies.speaking(source, to)
        await self._read()
        cells = {each.cell for each in self._store.endpoints().values() if each.app == judged} - {self._cell}
        stored = tuple(each for each in here if not each.origin.line)
        found = {cell: (*self._speaking(cell, source, to), *stored) for cell in sorted(cells)}
        return {self._cell: here, **found} if isinstance(judged, AppName) and self._is_here(judged) else found

    def incomplete(self, cell: str) -> str:
        """Why what is known of a cell's files is not all; empty where it is."""
        found = self._others.get(cell)
        if cell == self._cell:
            return ""
        if found is None:
            return f"{cell} has not published its policy files: its agent is older, or has not reached the store"
        if not found.is_whole:
            return f"{cell} has too many policies of files for too many apps: not all of them are known here"
        more = found.unpacked.left_out
        return found.problem or (f"{more} policies of files on {cell} are not known here: they are too many" if more else "")

    def _speaking(self, cell: str, source: Party, to: Party) -> tuple[Policy, ...]:
        found = self._others.get(cell)
        if found is None:
            return ()
        apps, outside = self._resolvers.setdefault(cell, (PolicyResolver(), OutsideResolver()))
        holding = self._policies.holding(found.spelled_out)
        apps.follow(holding)
        outside.follow(holding)
        return speaking_of(source, to, apps, outside)

    async def _read(self) -> None:
        """What is published now. Of thousands of records only those are read that have changed."""
        published = self._store.published_policies()
        if published is self._seen:
            return
        async with self._reading:
            others = {name: data for name, data in published.items() if name != self._cell}
            for name, data in others.items():
                held = self._others.get(name)
                if held is None or held.data != data:
                    self._others[name] = await in_reader_thread(partial(self._unpacked, name, data))
            for name in self._others.keys() - others.keys():
                del self._others[name]
                self._resolvers.pop(name, None)
            await self._spell_out()
            self._seen = published

    async def _spell_out(self) -> None:
        """For the apps that run there now. Where no cell has policies in files, what runs is not looked at: it may be much."""
        with_policies = {name: each for name, each in self._others.items() if each.unpacked.policies}
        running: dict[str, set[AppName]] = {name: set() for name in with_policies}
        for endpoint in self._store.endpoints().values() if running else ():
            if endpoint.cell in running:
                running[endpoint.cell].add(endpoint.app)
        for name, each in with_policies.items():
            if each.apps is None or each.apps != running[name]:
                apps = frozenset(running[name])
                found = await in_reader_thread(partial(_within_bounds, each.unpacked.policies, apps))
                each.apps, each.spelled_out, each.is_whole = apps, found[:MOST_SPELLED_OUT], len(found) <= MOST_SPELLED_OUT

    def _unpacked(self, name: str, data: bytes) -> OneCell:
        try:
            return OneCell(data, unpack(data, cell=name, inside=self._inside))
        except InvalidInput as error:
            return OneCell(data, Unpacked(), error.what)


def _within_bounds(policies: Iterable[Policy], apps: frozenset[AppName]) -> tuple[Policy, ...]:
    """One more than may be, where there are more: a cell that lies may have written thousands for all of its apps."""
    return tuple(islice(_spelled_out(policies, apps), MOST_SPELLED_OUT + 1))


def _spelled_out(policies: Iterable[Policy], apps: frozenset[AppName]) -> Iterator[Policy]:
    """What policies allow of the apps that a cell judges for: those that run there."""
    patterns = {app: Pattern(app.org, app.space, app.app) for app in sorted(apps)}
    for policy in policies:
        if isinstance(policy, EgressPolicy):
            callers = tuple(pattern for app, pattern in patterns.items() if any(each.matches(app) for each in policy.sources))
            if callers:
                yield replace(policy, sources=callers)
        else:
            yield from (replace(policy, to=pattern) for app, pattern in patterns.items() if policy.to.matches(app))
