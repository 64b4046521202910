"""Cuts forbidden connections twice: at once, before the change is reported as enforced; and 50 ms later, for packets that were
in flight, so that no caller has to wait for the second look. Where Envoy is late with callers' rights, it lets streams in by
the old ones: there is a look every few seconds, and one when it has taken them. Its word is that of one of its threads: on a
machine that starves the others one of them may go by the old rights for a moment more, so tunnels are looked through again.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address
from typing import TypeVar

from dataplane.flows.cut import Receipt, SweepPhase
from dataplane.flows.places import NO_PLACE, NOWHERE, Addresses, Places
from dataplane.kernel import Kernel
from dataplane.state import HostState, Workload
from dataplane.way_out import is_possible

R = TypeVar("R")
RETRY = 5.0  # seconds after a second look that failed, or until a third, and between looks while Envoy is late
DELAY = 0.05  # seconds; a packet that had passed the old rules is somewhere by then, even on a machine that is busy


class Revocation:
    """Remembers where more looks are due. `clock` is in seconds and never jumps."""

    def __init__(self, kernel: Kernel, *, clock: Callable[[], float]) -> None:
        self._kernel = kernel
        self._clock = clock
        self._expected: Mapping[IPv4Address, int] = {}  # have departed; of the next first look
        self._left = 0  # looks, at these places
        self._places = NOWHERE
        self._late = NO_PLACE
        self._due = 0.0

    def wait(self) -> float | None:
        """Seconds until the next look is due, None if there is nothing left to look at."""
        return max(self._due - self._clock(), 0.0) if self._left or self._late else None

    def expect(self, departed: Mapping[IPv4Address, int]) -> None:
        """The next cut is also of what these have left behind (see Places)."""
        self._expected = {**self._expected, **departed}

    async def cut(self, state: HostState, places: Places, *, late: frozenset[IPv4Address] = NO_PLACE) -> Receipt | None:
        """Cut at these places what `state` forbids; a second look is due then. Envoy is `late` with the rights to reach these.

        Raises HostRefused.
        """
        places |= Places(self._late - late, departed=self._expected)  # it has let streams in by the old ones until now
        if late and self.wait() is None:
            self._due = self._clock() + RETRY
        self._late = late
        if not places:
            return None
        found = await self._sweep(state, places, phase=SweepPhase.FIRST)
        self._places |= places
        self._left = 2 if state.mutual_tls.served else 1
        self._expected, self._due = {}, self._clock() + DELAY
        return found

    async def cut_again(self, state: HostState) -> Receipt | None:
        """The next look, if it is due. `state` is what is enforced by now. Raises HostRefused; then it is still due."""
        if self.wait() != 0.0:
            return None
        self._due = self._clock() + RETRY
        found = await self._sweep(state, self._places | Places(self._late), phase=SweepPhase.LATER)
        self._left = max(self._left - 1, 0)
        if not self._left:
            self._places = NOWHERE
        return found

    async def _sweep(self, state: HostState, places: Places, *, phase: SweepPhase) -> Receipt:
        return await asyncio.wrap_future(self._kernel.sweep(state, places, phase=phase, clock=self._clock))


def lost(before: HostState | None, after: HostState) -> Places:
    """Where flows may be that `after` forbids and `before` did not; without one, anywhere."""
    return Places(lost_rights(before, after), lost_ways_out(before, after))


def lost_rights(before: HostState | None, after: HostState) -> Addresses:
    """Containers that have gone, and those that fewer may reach; None means everywhere, as without a state `before`.

    An address that changed its tag may have flows to anywhere that its new tag may not have; what goes to a cell that is no
    peer any more would leave by the default route; the mode of mutual TLS decides what all rights stand for; and what is never
    outside is no longer reached by any right.
    """
    if before is None or not before.peers.keys() <= after.peers.keys() or _closes_ports(before, after):
        return None
    if is_possible(before) and not frozenset(after.never_outside) <= frozenset(before.never_outside):
        return None
    if any(
        each.address in after.workloads and after.workloads[each.address].tag != each.tag for each in before.workloads.values()
    ):
        return None
    smaller = {name for name, tags in before.groups.items() if not tags <= after.groups.get(name, frozenset())}
    return frozenset(
        address
        for address, workload in before.workloads.items()
        if _lost(workload, after.workloads.get(address)) or (smaller and _relies_on(smaller, workload))
    )


def lost_ways_out(before: HostState | None, after: HostState) -> frozenset[IPv4Address]:
    """Containers that may reach less outside. Those that have gone are among those of `lost_rights`."""
    if before is None:
        return NO_PLACE
    return frozenset(
        address
        for address, workload in before.workloads.items()
        if workload.egress
        and (now := after.workloads.get(address, workload)).egress is not workload.egress
        and not workload.egress <= now.egress
    )


def _closes_ports(before: HostState, after: HostState) -> bool:
    """Whether another mode takes away what the same rights let through: plain TCP, tunnels, or the ports of these."""
    one, other = before.mutual_tls, after.mutual_tls
    return one.served != other.served or (one.plain and not other.plain) or before.tls_port != after.tls_port


def _relies_on(groups: Collection[str], workload: Workload) -> bool:
    return any(allow.group in groups for allow in workload.allows)


def _lost(before: Workload, after: Workload | None) -> bool:
    """Whether it has gone, or may be reached by fewer, inside or from outside."""
    if after is before:
        return False
    return after is None or not (_keeps(before.allows, after.allows) and _keeps(before.ingress, after.ingress))


def _keeps(before: frozenset[R], after: frozenset[R]) -> bool:
    return after is before or before <= after
