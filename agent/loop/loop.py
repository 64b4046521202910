"""The loop: snapshot, desired state, plan against the cached actual state, apply, cut what is no longer allowed, remember.

Level-triggered: a kick says that something changed, never what. Kicks that come while it works are one more turn.
A full read of the kernel (at the start, after a failure, when somebody else changed something, every 10 s) must then plan
nothing; if it does plan something although nothing changed, the host was changed under us, and the plan is a repair.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Address

from agent import log
from agent.envoy.listeners import Served, ServedListener
from agent.errors import RAISED, HostRefused
from agent.loop.contested_jumps import ContestedJumps
from agent.loop.desired import CellFacts, desired_state, servable
from agent.loop.mass_loss import MassLossGuard
from agent.loop.revocation import Revocation, lost_rights
from agent.loop.snapshot import Snapshot
from agent.loop.turns import IDLE, TurnReport, Turns
from agent.metrics import Metrics
from agent.model.status import Part, Problem, as_problems
from agent.pacing import Backoff
from dataplane.apply import Kernel, Outcome
from dataplane.compile import compile_tables
from dataplane.envoy.ads import AdsServer
from dataplane.envoy.listening import ContainerPort
from dataplane.envoy.resource import Resource, ResourceKey
from dataplane.envoy.resources import Translation, listener_key, of_workload
from dataplane.flows.cut import Receipt
from dataplane.netlink.monitor import Monitor
from dataplane.plan import plan
from dataplane.state import HostState
from dataplane.tables import Tables, without
from host.errors import Unexpected

TOLD = 20  # flows of one receipt that are named in the log; the rest are counted


@dataclass(frozen=True, slots=True)
class Effects:
    """The edges of the loop. `elapsed` is a clock in seconds that never jumps, `called` a moment of it in UTC."""

    kernel: Kernel
    monitor: Monitor
    metrics: Metrics
    ads: AdsServer
    elapsed: Callable[[], float]
    called: Callable[[float], datetime]


@dataclass(frozen=True, slots=True)
class LastApplyRow:
    """The last time that the kernel or Envoy was changed: when (UTC), how long it took, how many changes."""

    at: datetime
    milliseconds: float
    changes: int


class Reconciler(Part):
    """Keeps the host as the snapshot says. One `run` at a time; everything else may be called from the same event loop."""

    def __init__(self, snapshot: Callable[[], Awaitable[Snapshot]], *, facts: CellFacts, effects: Effects) -> None:
        self._snapshot = snapshot
        self._facts = facts
        self._effects = effects
        self._turns = Turns()
        self._translation = Translation()
        self._resources: Mapping[ResourceKey, Resource] = {}
        self._log = log.get("reconcile")
        self.contested = ContestedJumps()
        self.mass_loss = MassLossGuard()
        self._departed: dict[IPv4Address, int] = {}  # containers of other cells whose flows have not been looked at yet
        self._again: float | None = None
        self._unswept = True  # flows may live that were opened while the rules were not ours to vouch for
        self._revocation = Revocation(effects.kernel, clock=effects.elapsed)
        self._generation = 0  # grows with each turn, so that a look knows whether it is out of date
        self._actual: Tables | None = None  # None: unknown, read before the next plan
        self._seen = False  # whether it was read, and is not what the last turn has made
        self._applied: tuple[Tables, HostState] | None = None  # what the last good turn made true
        self._compiled_of: tuple[HostState, Tables] | None = None
        self.last: TurnReport = IDLE
        self.last_change: TurnReport | None = None  # the last that changed the kernel
        self.repairs = 0
        self.at_rest = asyncio.Event()  # set between turns

    def kick(self) -> None:
        """Something changed: take another turn."""
        self._turns.kick()

    async def settle(self) -> TurnReport:
        """The report of the first turn that begins after this call, so it includes whatever the caller changed."""
        return await self._turns.next()

    async def run(self) -> None:
        """Turn for ever. Ends only by cancellation."""
        backoff = Backoff()
        while True:
            wait = self._wait() if self.last.problem is None else backoff.next()
            waiting = await self._turns.begin(within=wait)
            self._generation += 1
            self.at_rest.clear()
            report = await self._turn()
            self.at_rest.set()
            if report.problem is None:
                backoff.reset()
            self._tell(report)
            self._count(report)
            self.last = report
            if report.changes:
                self.last_change = report
            waiting.end(report)
            await self._sweep_again()

    def _wait(self) -> float | None:
        """Seconds until a turn is due that nobody asks for."""
        owed = (self._revocation.wait(), self.mass_loss.wait(now=self._effects.elapsed()), self._again)
        return min((each for each in owed if each is not None), default=None)

    async def _turn(self) -> TurnReport:
        started = self._effects.elapsed()
        try:
            report = await self._converge()
        except Exception as error:
            self._actual, self._unswept = None, True
            report = TurnReport(problem=error if isinstance(error, RAISED) else Unexpected(error))
        return report.timed(started, self._effects.elapsed())

    async def _converge(self) -> TurnReport:
        known = None if self._applied is None else self._applied[1]
        snapshot = await self._snapshot()
        self._departed.update(snapshot.departed)
        self._again = snapshot.again
        state = desired_state(snapshot, facts=self._facts, before=known)
        state = self.mass_loss.guarded(state, before=known, leaving=snapshot.leaving, now=self._effects.elapsed())
        if state == known:
            state = known  # and what follows from it is what it was
        tables = self._compiled(state)
        if self._actual is None:
            self._actual, self._seen = await self._read(tables), True
        actual, before = self._actual, self._applied
        repair = before is not None and self._disturbed(before[0], actual)
        if self.contested.concedes(actual.jumps, wanted=tables.jumps, now=self._effects.elapsed()):
            tables = replace(tables, jumps=actual.jumps)
        changes = plan(tables, actual)
        self._actual = None  # unknown until the apply has ended well
        outcome = Outcome({})
        if changes:
            outcome = await asyncio.wrap_future(self._effects.kernel.apply(changes, tables))
            self._effects.monitor.drain()  # our own changes
        failures = self._still_ruined(state) | outcome.failures
        overlay = outcome.overlay or (None if self._seen else self.last.overlay)  # as those who are ruined, below
        resources = self._translation.of(servable(state, failures=failures, served=self._resources))
        if resources is not self._resources:
            self._resources = resources
            self._effects.ads.publish(resources)
        self._unswept |= repair
        receipt = await self._cut(state, before=None if self._unswept or before is None else before[1])
        self._unswept = False
        self._actual = tables if _determined(failures, before) else None
        self._applied, self._seen = (tables, state), False
        self._generation += 1
        return TurnReport(
            changes=changes.count(),
            plan=changes if changes else None,
            failures=failures,
            overlay=overlay,
            receipt=receipt,
            repair=repair and bool(changes),
        )

    def _compiled(self, state: HostState) -> Tables:
        """Kept for the turns in which nothing has changed: half of all."""
        if self._compiled_of is None or self._compiled_of[0] is not state:
            self._compiled_of = (state, compile_tables(state))
        return self._compiled_of[1]

    async def envoy_connected(self, *, timeout: float) -> None:  # noqa: ASYNC109 -- as settled
        """Return when Envoy is connected. Raises Unavailable."""
        await self._effects.ads.settled({}, timeout=timeout)

    async def envoy_has(self, address: IPv4Address, *, timeout: float) -> None:  # noqa: ASYNC109 -- its error says who is late
        """Return when Envoy has acknowledged what it serves at `address`, or its absence. Raises as AdsServer.settled."""
        await self._effects.ads.settled(of_workload(self._resources, address), timeout=timeout)

    def served(self) -> Served:
        """What Envoy should have open, of the containers that are in place."""
        workloads = {} if self._applied is None else self._applied[1].workloads
        return {
            ContainerPort(address, listener.port, workload.pin): ServedListener(
                listener_key(address), of_workload(self._resources, address)
            )
            for address, workload in workloads.items()
            for listener in workload.listeners
            if listener_key(address) in self._resources and address not in self.last.failures
        }

    def applied(self) -> HostState | None:
        """What is true of the kernel since the last good turn."""
        return None if self._applied is None else self._applied[1]

    def problems(self) -> Iterator[Problem]:
        """Of the last turn as a whole. What failed of single containers their attachments report."""
        yield from as_problems("kernel", self.last.problem)
        yield from as_problems("overlay", self.last.overlay)

    async def rows(self) -> Mapping[str, object]:
        """`last_apply`, and `repairs` since the agent's start."""
        last, applied = self.last_change, None
        if last is not None:
            applied = LastApplyRow(self._effects.called(last.ended), round(last.milliseconds, 3), last.changes)
        return {"last_apply": applied, "repairs": self.repairs}

    async def look(self) -> bool:
        """Read the kernel beside the loop, and have what is wrong repaired. False if a turn made it worthless meanwhile."""
        generation, applied = self._generation, self._applied
        self._effects.ads.retry()  # what stood in Envoy's way may be gone
        if applied is None or self._actual is None:
            self.kick()  # something has failed; a turn reads for itself and tries again
            return True
        try:
            found = await self._read(applied[0])
        except RAISED as error:  # the turn meets the same, and tells it
            self._log.warning("cannot_look", what=error.what, hint=error.hint)
            self._actual = None
            self.kick()
            return True
        if generation != self._generation:
            return False
        if plan(applied[0], found) or self.contested.alarm or self.last.failures or self.last.overlay:
            self._actual, self._seen = found, True
            self.kick()
        return True

    def _disturbed(self, applied: Tables, actual: Tables) -> bool:
        if actual is applied or self.last.problem is not None:
            return False
        ruined = self.last.failures.keys()
        apart = self.last.overlay is not None
        return bool(plan(without(applied, ruined, overlay=apart), without(actual, ruined, overlay=apart)))

    def _still_ruined(self, state: HostState) -> dict[IPv4Address, HostRefused]:
        """Containers that were not tried again this time. Root inside can ruin his end for good: the others must not pay for
        it with a read of everything in each turn, so he is tried again after a look only."""
        if self._seen:
            return {}
        return {address: error for address, error in self.last.failures.items() if address in state.workloads}

    async def _read(self, tables: Tables) -> Tables:
        known = self._applied[0].interiors if self._applied is not None and self.last.problem is None else {}
        return await asyncio.wrap_future(self._effects.kernel.read(tables, known=known))

    async def _cut(self, state: HostState, *, before: HostState | None) -> Receipt | None:
        """Cut what the last change forbade; everything forbidden at the start and after a repair."""
        lost = None if before is None else lost_rights(before, state)
        receipt = await self._revocation.cut(state, lost, departed=self._departed)
        self._departed = {}
        return receipt

    async def _sweep_again(self) -> None:
        """What the last turns' cuts may have missed. A turn that failed sweeps anew when it succeeds."""
        if self.last.problem is not None or self._applied is None:
            return
        try:
            receipt = await self._revocation.cut_again(self._applied[1])
        except HostRefused as error:
            self._log.error("not_swept_again", what=error.what, hint=error.hint)
            return
        if receipt:
            self._effects.metrics.flows_cut.inc(len(receipt.flows))
            self._tell_cut(receipt, milliseconds=receipt.seconds * 1000)

    def _count(self, report: TurnReport) -> None:
        metrics = self._effects.metrics
        if report.problem is not None:
            metrics.failed_turns.inc()
        if report.changes:
            metrics.convergence.observe(report.milliseconds / 1000)
        if report.repair:
            self.count_repair()
        if report.receipt:
            metrics.flows_cut.inc(len(report.receipt.flows))

    def count_repair(self) -> None:
        """What somebody else had broken was put back."""
        self.repairs += 1
        self._effects.metrics.repairs.inc()

    @property
    def rule_count(self) -> int:
        """How many rules of ours the kernel has."""
        return 0 if self._applied is None else sum(map(len, self._applied[0].chains.values()))

    def _tell(self, report: TurnReport) -> None:
        if report.problem is not None:
            if self.last.problem is None or str(self.last.problem) != str(report.problem):
                self._log.error(
                    "not_converged", what=report.problem.what, hint=report.problem.hint, exc_info=report.problem.__cause__
                )
            return
        if self.last.problem is not None:
            self._log.info("recovered")
        for address, error in report.failures.items():
            if str(self.last.failures.get(address)) == str(error):
                continue
            self._log.error("workload_failed", address=str(address), what=error.what, hint=error.hint)
        if report.overlay is not None and str(self.last.overlay) != str(report.overlay):
            self._log.error("overlay_failed", what=report.overlay.what, hint=report.overlay.hint)
        if report.changes:
            event = "repaired" if report.repair else "converged"
            self._log.info(event, changes=report.changes, milliseconds=round(report.milliseconds, 1))
        if report.receipt:
            self._tell_cut(report.receipt, milliseconds=report.milliseconds)

    def _tell_cut(self, receipt: Receipt, *, milliseconds: float) -> None:
        self._log.info(
            "flows_cut",
            flows=[str(flow) for flow in receipt.flows[:TOLD]],
            count=len(receipt.flows),
            sockets=receipt.sockets_destroyed,
            entries=receipt.entries_deleted,
            milliseconds=round(milliseconds, 1),
        )


def _determined(failures: Mapping[IPv4Address, HostRefused], before: tuple[Tables, HostState] | None) -> bool:
    """Whether the kernel is known in spite of these. What a new container has left half done must be read."""
    return not failures or (before is not None and failures.keys() <= before[1].workloads.keys())
