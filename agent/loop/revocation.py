"""Cutting what a change forbids, in two goes: what flows now, before anybody hears that the change is enforced; and what the
kernel had still on its way then, a little later, so that nobody has to wait for the second look.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address
from typing import TypeAlias

from dataplane.apply import Kernel
from dataplane.flows.cut import Looks, Receipt
from dataplane.flows.judge import NOBODY
from dataplane.state import HostState, Workload

Departed = Mapping[IPv4Address, int]
Addresses: TypeAlias = "frozenset[IPv4Address] | None"
"""Where to look for flows; None means everywhere."""
NOWHERE: frozenset[IPv4Address] = frozenset()

RETRY = 5.0  # seconds after a second look that failed
DELAY = 0.05  # seconds; a packet that had passed the old rules is somewhere by then, even on a machine that is busy


class Revocation:
    """Remembers where a second look is owed. `clock` is in seconds and never jumps."""

    def __init__(self, kernel: Kernel, *, clock: Callable[[], float]) -> None:
        self._kernel = kernel
        self._clock = clock
        self._owed: Addresses = NOWHERE
        self._departed: Departed = {}
        self._due = 0.0

    def wait(self) -> float | None:
        """Seconds until the second look is due, None if none is owed."""
        return None if not self._is_owed else max(self._due - self._clock(), 0.0)

    @property
    def _is_owed(self) -> bool:
        return self._owed != NOWHERE or bool(self._departed)

    async def cut(self, state: HostState, addresses: Addresses, *, departed: Departed = NOBODY) -> Receipt | None:
        """Cut at `addresses` what `state` forbids, and what `departed` have left behind (see dataplane/flows/cut.py), and owe a
        second look. Raises HostRefused."""
        if addresses == NOWHERE and not departed:
            return None
        found = await self._sweep(state, addresses, departed, looks=Looks.FIRST)
        self._owed, self._departed = joined(self._owed, addresses), {**self._departed, **departed}
        self._due = self._clock() + DELAY
        return found

    async def cut_again(self, state: HostState) -> Receipt | None:
        """The second look, if it is due. `state` is what is enforced by now. Raises HostRefused; then it is still owed."""
        if self.wait() != 0.0:
            return None
        self._due = self._clock() + RETRY
        found = await self._sweep(state, self._owed, self._departed, looks=Looks.LATER)
        self._owed, self._departed = NOWHERE, {}
        return found

    async def _sweep(self, state: HostState, addresses: Addresses, departed: Departed, *, looks: Looks) -> Receipt:
        sweep = self._kernel.sweep(state, addresses=addresses, departed=departed, looks=looks, clock=self._clock)
        return await asyncio.wrap_future(sweep)


def joined(one: Addresses, other: Addresses) -> Addresses:
    """Both."""
    return None if one is None or other is None else one | other


def lost_rights(before: HostState, after: HostState) -> Addresses:
    """Containers that have gone, and those that fewer may reach; None means everywhere.

    An address that changed its tag may have flows to anywhere that its new tag may not have; what goes to a cell that is no
    peer any more would leave by the default route.
    """
    if not before.peers.keys() <= after.peers.keys():
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


def _relies_on(groups: Collection[str], workload: Workload) -> bool:
    return any(allow.group in groups for allow in workload.allows)


def _lost(before: Workload, after: Workload | None) -> bool:
    if after is before:
        return False
    return after is None or (after.allows is not before.allows and not before.allows <= after.allows)
