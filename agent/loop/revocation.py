"""Cutting what a change forbids, in two goes: what flows now, before anybody hears that the change is enforced; and what the
kernel had still on its way then, a little later, so that nobody has to wait for the second look.
"""

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from agent.loop.cutting import NOWHERE, Addresses, joined
from dataplane.apply import Kernel
from dataplane.flows.cut import Looks, Receipt
from dataplane.state import HostState

Departed = Mapping[IPv4Address, int]
NOBODY: Departed = {}

RETRY = 5.0  # seconds after a second look that failed
DELAY = 0.05  # seconds; a packet that had passed the old rules is somewhere by then, even on a machine that is busy


class Sweeping:
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

    async def now(self, state: HostState, addresses: Addresses, *, departed: Departed = NOBODY) -> Receipt | None:
        """Cut at `addresses` what `state` forbids, and what `departed` have left behind (see dataplane/flows/cut.py), and owe a
        second look. Raises HostRefused."""
        if addresses == NOWHERE and not departed:
            return None
        found = await self._sweep(state, addresses, departed, looks=Looks.FIRST)
        self._owed, self._departed = joined(self._owed, addresses), {**self._departed, **departed}
        self._due = self._clock() + DELAY
        return found

    async def again(self, state: HostState) -> Receipt | None:
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
