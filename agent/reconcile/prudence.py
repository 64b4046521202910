"""Second thoughts before much is taken away at once that nobody asked for: all peers, or most containers.

What the store or the ledger says is believed, but a reading that lost most of what there was is likelier a mistake than a wish.
Such a state is put off until it has been so for a while; what there was stays meanwhile, and `status` says so. Whoever detaches
a container asks for it, and never waits. Pure but for what it remembers.
"""

from collections.abc import Collection
from dataclasses import replace

from agent.errors import Unavailable
from dataplane.state import HostState

WAIT = 1.0  # seconds until the second look


class Prudence:
    """One per loop."""

    def __init__(self) -> None:
        self._doubted: HostState | None = None
        self._since = 0.0
        self.problem: Unavailable | None = None

    def wait(self, *, now: float) -> float | None:
        """Seconds until what is doubted should be looked at again, None if nothing is."""
        return None if self._doubted is None else max(self._since + WAIT - now, 0.0)

    def judged(self, state: HostState, *, before: HostState | None, leaving: Collection[str], now: float) -> HostState:
        """`state`, or with what there was `before` while it is doubted. `leaving` are containers that somebody takes away."""
        what = None if before is None else _lost(state, before, leaving=leaving)
        if what is None or before is None:
            self._doubted, self.problem = None, None
            return state
        if self._doubted is None or not _equal(self._doubted, state):
            self._doubted, self._since = state, now
        if now - self._since >= WAIT:
            self._doubted, self.problem = None, None
            return state
        self.problem = Unavailable(f"{what} would go at once: it is done if it is still so in a moment", hint="wait a second")
        kept = {address: each for address, each in before.workloads.items() if each.name not in leaving}
        return replace(state, workloads=kept | dict(state.workloads), peers=state.peers or before.peers)


def _lost(state: HostState, before: HostState, *, leaving: Collection[str]) -> str | None:
    """What would go that nobody took away, None if that is little."""
    staying = [address for address, each in before.workloads.items() if each.name not in leaving]
    gone = sum(address not in state.workloads for address in staying)
    if gone > len(staying) / 2:
        return f"{gone} of {len(staying)} containers"
    if before.peers and not state.peers:
        return f"all {len(before.peers)} peers"
    return None


def _equal(one: HostState, other: HostState) -> bool:
    return one.peers == other.peers and one.workloads.keys() == other.workloads.keys()
