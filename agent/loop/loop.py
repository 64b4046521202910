"""The loop: snapshot, desired state, plan against what is known of the kernel, apply, publish, cut, remember.

Level-triggered: a kick says that something changed, never what. Kicks that come while it works are one more turn.
A full read of the kernel (at the start, after a failure, when another program changed something, every 10 s) must then plan
nothing; if it does plan something although nothing changed, the host was changed under us, and the plan is a repair.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent import log
from agent.complaint import Complaints
from agent.envoy.late_rights import LateRights
from agent.envoy.listeners import Served
from agent.errors import RAISED, HostRefused
from agent.loop.contested_jumps import ContestedJumps
from agent.loop.cut_lines import cut_lines
from agent.loop.desired import CellFacts, desired_state
from agent.loop.envoy_table import EnvoyTable
from agent.loop.hop_calls import HopCalls
from agent.loop.known_kernel import Applied, KnownKernel
from agent.loop.mass_loss import MassLossGuard
from agent.loop.names_table import NamesTable
from agent.loop.reports import Cut, TurnReport, TurnReports
from agent.loop.revocation import Revocation, lost
from agent.loop.snapshot import Snapshot
from agent.loop.turns import Turns
from agent.metrics import Metrics
from agent.model.names import AppName
from agent.pacing import Backoff
from dataplane.apply import Outcome
from dataplane.compile import compile_tables
from dataplane.dns.hosts_files import HostsFolder
from dataplane.envoy.ads.ads import AdsServer
from dataplane.flows.cut import Receipt
from dataplane.kernel import Kernel
from dataplane.netlink.monitor import Monitor
from dataplane.plan import Plan, plan
from dataplane.state import HostState
from dataplane.tables import Tables
from host.errors import Unexpected


@dataclass(frozen=True, slots=True)
class Effects:
    """The edges of the loop. `elapsed` is a clock in seconds that never jumps, `called` a moment of it in UTC. `hop_wanted` is
    the file that says so.
    """

    kernel: Kernel
    monitor: Monitor
    metrics: Metrics
    ads: AdsServer
    names: HostsFolder
    elapsed: Callable[[], float]
    called: Callable[[float], datetime]
    hop_wanted: Path | None = None


class Reconciler:
    """Keeps the host as the snapshot says. One `run` at a time; everything else may be called from the same event loop."""

    def __init__(self, snapshot: Callable[[], Awaitable[Snapshot]], *, facts: CellFacts, effects: Effects) -> None:
        self._snapshot = snapshot
        self.facts = facts
        self._is_other = False  # whether what facts say may have become less
        self._effects = effects
        self._turns = Turns()
        self._known = KnownKernel()
        self._revocation = Revocation(effects.kernel, clock=effects.elapsed)
        self._news_in: float | None = None  # see Snapshot
        self._tags: Mapping[AppName, int] = {}  # of the last snapshot
        self.contested = ContestedJumps()
        self.mass_loss = MassLossGuard()
        self.envoy = EnvoyTable(effects.ads)
        self.late_rights = LateRights(effects.ads, on_taken=self.kick)
        self.reports = TurnReports(effects.metrics, called=effects.called, elapsed=effects.elapsed)
        self.names = NamesTable(effects.names, on_repair=self.reports.add_repair)
        self.hop_calls = HopCalls(effects.hop_wanted, clock=effects.elapsed)
        self.at_rest = asyncio.Event()  # set between turns
        self._log = log.get("reconcile")
        self._looks = Complaints(self._log, failed="cannot_look")

    def take(self, facts: CellFacts) -> None:
        """Go by these from the next turn on, which also looks for flows that they no longer permit."""
        self._is_other |= facts != self.facts
        self.facts = facts
        self.kick()

    def kick(self) -> None:
        """Something changed: take another turn."""
        self._turns.kick()

    async def settle(self) -> TurnReport:
        """The report of the first turn that begins after this call, so it includes whatever the caller changed."""
        return await self._turns.next()

    async def run(self) -> None:
        """One turn after the other. Ends only by cancellation."""
        backoff, elapsed = Backoff(), self._effects.elapsed
        while True:
            waiters = await self._turns.begin(within=backoff.next() if self._known.has_failed else self._due_in())
            self.at_rest.clear()
            started = elapsed()
            try:
                report = await self._turn()
                backoff.reset()
            except Exception as error:
                self._known = self._known.after_failure()
                report = TurnReport(problem=error if isinstance(error, RAISED) else Unexpected(error))
            self.at_rest.set()
            report = report.timed(started, elapsed())
            self.reports.add(report)
            waiters.end(report)
            await self._cut_again()

    def _due_in(self) -> float | None:
        """Seconds until a turn is due that nothing kicks."""
        due = (self._revocation.wait(), self.mass_loss.wait(now=self._effects.elapsed()), self._news_in)
        return min((each for each in due if each is not None), default=None)

    async def _turn(self) -> TurnReport:
        known, now = self._known, self._effects.elapsed
        is_other, self._is_other = self._is_other, False
        snapshot = await self._snapshot()
        self._news_in, self._tags = snapshot.news_in, snapshot.tags
        self._revocation.expect(snapshot.departed)
        wanted = desired_state(snapshot, facts=self.facts, before=known.state)
        wanted = self.mass_loss.guarded(wanted, before=known.state, leaving=snapshot.leaving, now=now())
        compiled_before = None if known.applied is None else known.applied.compiled
        state, compiled = known.state_and_tables(wanted) or (wanted, compile_tables(wanted, before=compiled_before))
        actual = known.actual
        if actual is None:
            actual = await self._read(compiled)
            known = known.read(actual)
        tables = self.contested.respected(compiled, actual, now=now())
        changes, is_repair = plan(tables, actual), known.is_disturbed
        await self.names.withdraw(state.names)
        outcome = await self._apply(changes, tables)
        after = known.after_turn(Applied(state, compiled, tables), outcome)
        self.late_rights.want(state.workloads.values(), self.envoy.publish(state, broken=after.broken))
        await self.names.publish(state.names, broken=after.broken)
        self.hop_calls.follow(state)
        late = await self.late_rights.settle()  # what is cut before could be opened again
        # None: connections may exist that were opened while our rules were not in force
        before = None if is_repair or known.has_failed or is_other else known.state
        receipt = await self._revocation.cut(state, lost(before, state), late=late)
        self._known = after
        return TurnReport(
            changes=changes.count(),
            plan=changes or None,
            failures=after.broken,
            overlay=after.overlay,
            cut=self._named(receipt, state),
            repair=is_repair and bool(changes),
        )

    async def _read(self, desired: Tables, *, again: bool = False) -> Tables:
        reading = self._effects.kernel.read(desired, known=self._known.intact_interiors, again=again)
        return await asyncio.wrap_future(reading)

    async def _apply(self, changes: Plan, tables: Tables) -> Outcome:
        if not changes:
            return Outcome({})
        outcome = await asyncio.wrap_future(self._effects.kernel.apply(changes, tables))
        self._effects.monitor.drain()  # our own changes
        return outcome

    async def _cut_again(self) -> None:
        """What the last turns' cuts may have missed. A turn that failed cuts everywhere when it succeeds."""
        if self._known.has_failed or self._known.state is None:
            return
        try:
            state = self._known.state
            self.reports.add_later_cut(self._named(await self._revocation.cut_again(state), state))
        except HostRefused as error:
            self._log.error("not_swept_again", what=error.what, hint=error.hint)

    def _named(self, receipt: Receipt | None, state: HostState) -> Cut | None:
        return Cut(receipt, cut_lines(receipt, state, self._tags)) if receipt else None

    async def look(self, *, inside: bool = True) -> bool:
        """Read the kernel beside the loop, and have what is wrong repaired. False if a turn made it worthless meanwhile.

        With `inside` what root in a container may have changed there is read, too.
        """
        self._effects.ads.retry()  # what stood in Envoy's way may be gone
        if not (await self.names.look() and self.hop_calls.look()):
            self.kick()
        known, found = self._known, None
        if known.applied is None or known.actual is None:
            self.kick()  # something has failed; a turn reads for itself and tries again
            return True
        try:
            found = await self._read(known.applied.tables, again=inside)
            self._looks.over()
        except RAISED as error:  # the turn meets the same, and reports it
            self._looks.about(error)
        if self._known is not known or not self.at_rest.is_set():
            return False
        if found is None or self.contested.alarm or known.needs_turn(found):
            self._known = known.read(found)
            self.kick()
        return True

    def applied(self) -> HostState | None:
        """What is true of the kernel since the last good turn."""
        return self._known.state

    def made(self) -> Applied | None:
        """The same with the tables that it is; None while a turn goes on, or after one that failed."""
        return self._known.applied if self.at_rest.is_set() and not self._known.has_failed else None

    def served(self) -> Served:
        """What Envoy should have open, of the containers that are in place."""
        return self.envoy.served(self._known)

    @property
    def rule_count(self) -> int:
        """How many rules of ours the kernel has."""
        applied = self._known.applied
        return 0 if applied is None else sum(map(len, applied.tables.chains.values()))
