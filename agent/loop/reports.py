"""What the loop's turns did: reported to waiters, to `status`, to the log and to the metrics."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Address
from typing import Self

from agent import log
from agent.complaint import Complaints
from agent.errors import CellnetError, HostRefused
from agent.metrics import Metrics
from agent.model.status import Events, Part, Problem, as_problems
from agent.wording import listed
from dataplane.flows.cut import Receipt
from dataplane.plan import Plan

LOGGED = 20  # flows, and lines by name, of one receipt; the rest are counted


@dataclass(frozen=True, slots=True)
class Cut:
    """What was cut, and what that is by name (see cut_lines)."""

    receipt: Receipt
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TurnReport:
    """What a turn did. `problem`: the turn as a whole failed and is tried again; `failures`: single containers that did;
    `overlay`: the way to other cells did, while this cell's containers have theirs.
    """

    changes: int = 0
    plan: Plan | None = None
    failures: Mapping[IPv4Address, HostRefused] = field(default_factory=dict)
    cut: Cut | None = None
    repair: bool = False
    problem: CellnetError | None = None
    overlay: HostRefused | None = None
    ended: float = 0.0
    milliseconds: float = 0.0

    def timed(self, started: float, ended: float) -> Self:
        """The same, with its end and duration; in seconds of a clock that never jumps."""
        return replace(self, ended=ended, milliseconds=(ended - started) * 1000)

    def of(self, address: IPv4Address) -> CellnetError | None:
        """Why the workload at `address` is not in place after this turn, None if it is."""
        return self.problem or self.failures.get(address)


@dataclass(frozen=True, slots=True)
class LastApplyRow:
    """The last time that the kernel or Envoy was changed: when (UTC), how long it took, how many changes."""

    at: datetime
    milliseconds: float
    changes: int


class TurnReports(Part):
    """One per loop. `elapsed` is a clock that never jumps, `called` a moment of it in UTC."""

    def __init__(self, metrics: Metrics, *, called: Callable[[float], datetime], elapsed: Callable[[], float]) -> None:
        self._metrics = metrics
        self._called = called
        self._elapsed = elapsed
        self._log = log.get("reconcile")
        self._problems = Complaints(self._log, failed="not_converged", recovered="recovered")
        self._failures = Complaints(self._log, failed="workload_failed")
        self._overlay = Complaints(self._log, failed="overlay_failed")
        self._last_change: TurnReport | None = None  # the last that changed the kernel
        self.repairs, self.cuts = Events(), Events()
        self._subscribers: list[Callable[[Receipt], None]] = []
        self.last = TurnReport()

    def subscribe(self, tell: Callable[[Receipt], None]) -> None:
        """It is told of each cut from now on, and does not wait."""
        self._subscribers.append(tell)

    def problems(self) -> Iterator[Problem]:
        """Of the last turn as a whole. What failed of single containers their attachments report."""
        yield from as_problems("kernel", self.last.problem)
        yield from as_problems("overlay", self.last.overlay)

    async def rows(self) -> Mapping[str, object]:
        """`last_apply`, and since the agent's start `repairs` and `cuts` with the last of each."""
        last, row = self._last_change, None
        if last is not None:
            row = LastApplyRow(self._called(last.ended), round(last.milliseconds, 3), last.changes)
        repairs, cuts = self.repairs, self.cuts
        return {
            "last_apply": row,
            "repairs": repairs.count,
            "last_repairs": repairs.last,
            "cuts": cuts.count,
            "last_cuts": cuts.last,
        }

    def add(self, report: TurnReport) -> None:
        """A turn has ended."""
        self.last = report
        if report.problem is not None:
            self._metrics.failed_turns.inc()
            self._problems.about(report.problem, exc_info=report.problem.__cause__)
            return
        self._problems.over()
        self._log_parts(report)
        if report.changes:
            self._last_change = report
            self._metrics.convergence.observe(report.milliseconds / 1000)
            event = "repaired" if report.repair else "converged"
            self._log.info(event, changes=report.changes, milliseconds=round(report.milliseconds, 1))
        if report.repair and report.plan is not None:
            self.add_repair(report.plan.summary())
        self._add_cut(report.cut, milliseconds=report.milliseconds)

    def _log_parts(self, report: TurnReport) -> None:
        for address, error in report.failures.items():
            self._failures.about(error, key=address, address=str(address))
        self._failures.over_for_all_but(report.failures.keys())
        if report.overlay is None:
            self._overlay.over()
        else:
            self._overlay.about(report.overlay)

    def add_later_cut(self, cut: Cut | None) -> None:
        """The second cut of one or several turns."""
        if cut is not None:
            self._add_cut(cut, milliseconds=cut.receipt.seconds * 1000)

    def add_repair(self, what: str) -> None:
        """What another program had broken was put back."""
        self.repairs.add(self._called(self._elapsed()), what)
        self._metrics.repairs.inc()

    def add_ended(self, count: int, what: str) -> None:
        """Connections that Envoy had no memory left for."""
        self._metrics.flows_cut.inc(count)
        self.cuts.add(self._called(self._elapsed()), what)

    def _add_cut(self, cut: Cut | None, *, milliseconds: float) -> None:
        if cut is None:
            return
        receipt, lines = cut.receipt, cut.lines
        for tell in self._subscribers:
            tell(receipt)
        self._metrics.flows_cut.inc(receipt.count)
        self.cuts.add(self._called(self._elapsed()), listed(lines, separator="; "))
        self._log.info(
            "flows_cut",
            what=lines[:LOGGED],
            flows=[str(flow) for flow in receipt.flows[:LOGGED]],
            count=receipt.count,
            sockets=receipt.sockets_destroyed,
            entries=receipt.entries_deleted,
            milliseconds=round(milliseconds, 1),
        )
