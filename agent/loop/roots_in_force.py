"""Which roots are in force on this cell: what its record says of them, so that a root goes only when no cell needs it.

A root is in force once apps can read it, the loop has published it, and Envoy has taken it everywhere. Until then the word is
the careful one: what is yet to be trusted is not said to be trusted, what may still be presented is said to be presented. At
the start the word of the last run holds, which Envoy may have outlived.
"""

import asyncio
from collections.abc import Callable

from agent.identity.leaves import Leaves
from agent.model.cell import RootsInUse
from agent.pacing import Backoff
from dataplane.state import HostState


class RootsInForce:
    """`say` takes this cell's word, `before` is that of the last run."""

    def __init__(self, leaves: Leaves, *, say: Callable[[RootsInUse], None], before: RootsInUse) -> None:
        self._leaves = leaves
        self._say = say
        self._confirmed = before
        self._changed = asyncio.Event()

    def look(self) -> None:
        """Say what is sure by now; cheap where nothing has changed."""
        wanted = self._wanted()
        if wanted != self._confirmed:
            self._changed.set()
        self._say(careful(wanted, self._confirmed))

    async def run(self, applied: Callable[[], HostState | None], *, taken: Callable[[], bool]) -> None:
        """Follow what the loop has applied, and whether Envoy has taken its secrets. Ends only by cancellation."""
        pauses = Backoff(first=0.02, longest=1.0)
        while True:
            await self._changed.wait()
            if self._is_current(applied()) and taken():
                self._changed.clear()
                pauses.reset()
                self._confirmed = self._wanted()
                self._say(self._confirmed)
            else:
                await asyncio.sleep(pauses.next())

    def _wanted(self) -> RootsInUse:
        return RootsInUse(tuple(sorted(self._leaves.trust.roots)), tuple(sorted(self._leaves.roots)))

    def _is_current(self, state: HostState | None) -> bool:
        if state is None:
            return False
        leaves = self._leaves.all()
        listeners = ((each.name, listener) for each in state.workloads.values() for listener in each.listeners)
        return state.trust_bundle == self._leaves.trust.bundle and all(
            leaves.get(name) == each.leaf for name, each in listeners
        )


def careful(wanted: RootsInUse, confirmed: RootsInUse) -> RootsInUse:
    """The word while it is open which of the two is in force."""
    trusts = set(wanted.trusts) & set(confirmed.trusts)
    signs_with = set(wanted.signs_with) | set(confirmed.signs_with)
    return RootsInUse(tuple(sorted(trusts)), tuple(sorted(signs_with)))
