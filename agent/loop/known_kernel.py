"""What the loop knows of the kernel: one value, which a turn or a look at the kernel replaces as a whole. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Self

from dataplane.apply import Outcome
from dataplane.plan import plan
from dataplane.state import HostState
from dataplane.tables import Interior, Tables, without
from host.errors import HostRefused


@dataclass(frozen=True, slots=True)
class Applied:
    """What a turn made true: `compiled` is what `state` asks for, `tables` the same but for jumps left to another program."""

    state: HostState
    compiled: Tables
    tables: Tables


@dataclass(frozen=True, slots=True)
class KnownKernel:
    """`applied` is by the last turn that succeeded; `actual` is what the kernel has, None where it must be read.

    `broken` are containers that are not in place, `overlay` is why this cell is not connected with its peers in full. Root in
    a container can break its own end for good. Retrying it every turn would cost all others a full read, so both are retried
    only where `actual` was read (`is_read`) and is not what the last turn has made.
    """

    applied: Applied | None = None
    actual: Tables | None = None
    is_read: bool = False
    broken: Mapping[IPv4Address, HostRefused] = field(default_factory=dict)
    overlay: HostRefused | None = None
    has_failed: bool = False  # the last turn as a whole

    @property
    def state(self) -> HostState | None:
        """What the last good turn made true."""
        return None if self.applied is None else self.applied.state

    def state_and_tables(self, wanted: HostState) -> tuple[HostState, Tables] | None:
        """If nothing has changed, as in about half of all turns: the objects that are known, as what follows from them is.

        Names are no matter of the kernel, and change with the instances of all cells.
        """
        if self.applied is None:
            return None
        before, compiled = self.applied.state, self.applied.compiled
        if wanted == before:
            return before, compiled
        if wanted.names is not before.names and replace(wanted, names=before.names) == before:
            return replace(before, names=wanted.names), compiled
        return None

    @property
    def intact_interiors(self) -> Mapping[IPv4Address, Interior]:
        """Those that a read need not look at again."""
        return {} if self.applied is None or self.has_failed else self.applied.tables.interiors

    @property
    def is_disturbed(self) -> bool:
        """Whether another program has changed what was applied; the own part of a broken container does not count."""
        if self.applied is None or self.actual is None or self.actual is self.applied.tables or self.has_failed:
            return False
        applied, actual = (
            without(each, self.broken, overlay=self.overlay is not None) for each in (self.applied.tables, self.actual)
        )
        return bool(plan(applied, actual))

    def needs_turn(self, found: Tables) -> bool:
        """Whether there is something to do about what a look has found."""
        if self.applied is None or self.broken or self.overlay is not None:
            return True
        return bool(plan(self.applied.tables, found))

    def read(self, actual: Tables | None) -> Self:
        """After the kernel was read; None where that failed, so that the next turn reads for itself."""
        return replace(self, actual=actual, is_read=actual is not None)

    def after_failure(self) -> Self:
        """After a turn that failed as a whole, wherever it got to."""
        return replace(self, actual=None, broken={}, overlay=None, has_failed=True)

    def after_turn(self, applied: Applied, outcome: Outcome) -> "KnownKernel":
        """After a turn that succeeded but for the failures of `outcome`."""
        broken = dict(outcome.failures)
        if not self.is_read:  # so what was broken before was not retried
            broken = {each: why for each, why in self.broken.items() if each in applied.state.workloads} | broken
        before = self.state.workloads.keys() if self.state is not None else frozenset()
        is_certain = broken.keys() <= before  # what a new container has left half done must be read
        return KnownKernel(
            applied=applied,
            actual=applied.tables if is_certain else None,
            broken=broken,
            overlay=outcome.overlay or (None if self.is_read else self.overlay),
        )
