"""Cuts forbidden connections twice: at once, before the change is reported as enforced; and 50 ms later, for packets that were
in flight, so that no caller has to wait for the second look. Where Envoy is late with callers' rights, it lets streams in by
the old ones: there is a look every few seconds, and one when it has taken them. Its word is that of one of its threads: on a
machine that starves the others one of them may go by the old rights for a moment more, so tunnels are looked through again.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from ipaddress import IPv4Address
from typing import TypeAlias, TypeVar

from dataplane.flows.cut import Receipt, SweepPhase
from dataplane.kernel import Kernel
from dataplane.state import HostState, Workload
from dataplane.way_out import is_possible

R = TypeVar("R")
Departed = Mapping[IPv4Address, int]
Addresses: TypeAlias = "frozenset[IPv4Address] | None"
"""Where to look for flows; None means everywhere."""
NOWHERE: frozenset[IPv4Address] = frozenset()

RETRY = 5.0  # seconds after a second look that failed, or until a third, and between looks while Envoy is late
DELAY = 0.05  # seconds; a packet that had passed the old rules is somewhere by then, even on a machine that is busy


class Revocation:
    """Remembers where more looks are due. `clock` is in seconds and never jumps."""

    def __init__(self, kernel: Kernel, *, clock: Callable[[], float]) -> None:
        self._kernel = kernel
        self._clock = clock
        self._expected: Departed = {}  # of the next first look
        self._left = 0  # looks, at these places
        self._places: Addresses = NOWHERE
        self._leaving = NOWHERE
        self._departed: Departed = {}
        self._late = NOWHERE
        self._due = 0.0

    def wait(self) -> float | None:
        """Seconds until the next look is due, None if there is nothing left to look at."""
        return max(self._due - self._clock(), 0.0) if self._left or self._late else None

    def expect(self, departed: Departed) -> None:
        """The next cut is also of what these have left behind (see dataplane/flows/cut.py)."""
        self._expected = {**self._expected, **departed}

    async def cut(
        self,
        state: HostState,
        addresses: Addresses,
        *,
        leaving: frozenset[IPv4Address] = NOWHERE,
        late: frozenset[IPv4Address] = NOWHERE,
    ) -> Receipt | None:
        """Cut at `addresses`, and of what those that are `leaving` have begun, what `state` forbids; a second look is due then.
        Envoy is `late` with the rights to reach these.

        Raises HostRefused.
        """
        addresses = joined(addresses, self._late - late)  # it has let streams in by the old ones until now
        if late and self.wait() is None:
            self._due = self._clock() + RETRY
        self._late = late
        if addresses == NOWHERE and not leaving and not self._expected:
            return None
        found = await self._sweep(state, addresses, leaving, self._expected, phase=SweepPhase.FIRST)
        self._leaving |= leaving
        self._places, self._departed = joined(self._places, addresses), {**self._departed, **self._expected}
        self._left = 2 if state.mutual_tls.served else 1
        self._expected, self._due = {}, self._clock() + DELAY
        return found

    async def cut_again(self, state: HostState) -> Receipt | None:
        """The next look, if it is due. `state` is what is enforced by now. Raises HostRefused; then it is still due."""
        if self.wait() != 0.0:
            return None
        self._due = self._clock() + RETRY
        places = joined(self._places, self._late)
        found = await self._sweep(state, places, self._leaving, self._departed, phase=SweepPhase.LATER)
        self._left = max(self._left - 1, 0)
        if not self._left:
            self._places, self._leaving, self._departed = NOWHERE, NOWHERE, {}
        return found

    async def _sweep(
        self,
        state: HostState,
        addresses: Addresses,
        leaving: frozenset[IPv4Address],
        departed: Departed,
        *,
        phase: SweepPhase,
    ) -> Receipt:
        sweep = partial(self._kernel.sweep, state, addresses=addresses, leaving=leaving, departed=departed)
        return await asyncio.wrap_future(sweep(phase=phase, clock=self._clock))


def joined(one: Addresses, other: Addresses) -> Addresses:
    """Both."""
    return None if one is None or other is None else one | other


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
        return NOWHERE
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
