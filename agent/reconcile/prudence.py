"""Second thoughts before much is taken away at once that nobody asked for: all peers, or most containers.

What the store or the ledger says is believed, but a reading that lost most of what there was is likelier a mistake than a wish.
Such a state is put off until it has been so for a while; what there was stays meanwhile, and `status` says so. Whoever detaches
a container asks for it, and never waits. Pure but for what it remembers.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from agent.errors import Unavailable
from dataplane.state import HostState

WAIT = 1.0  # seconds until the second look


class Prudence:
    """One per loop."""

    def __init__(self) -> None:
        self._doubted: _Loss | None = None
        self._since = 0.0
        self.problem: Unavailable | None = None

    def wait(self, *, now: float) -> float | None:
        """Seconds until what is doubted should be looked at again, None if nothing is."""
        return None if self._doubted is None else max(self._since + WAIT - now, 0.0)

    def judged(self, state: HostState, *, before: HostState | None, leaving: Collection[str], now: float) -> HostState:
        """`state`, or with what there was `before` while it is doubted. `leaving` are containers that somebody takes away."""
        loss = None if before is None else _loss(state, before, leaving=leaving)
        if loss is None or before is None:
            self._doubted, self.problem = None, None
            return state
        if self._doubted is None or not loss <= self._doubted:
            self._since = now
        self._doubted = loss
        if now - self._since >= WAIT:
            self._doubted, self.problem = None, None
            return state
        self.problem = Unavailable(f"{loss} would go at once: it is done if it is still so in a moment", hint="wait a second")
        kept = {address: each for address, each in before.workloads.items() if each.name not in leaving}
        return replace(
            state,
            workloads=kept | dict(state.workloads),
            groups={**before.groups, **state.groups},  # who is kept may have rights of a group that nobody else refers to
            peers=state.peers or before.peers,
        )


@dataclass(frozen=True, slots=True)
class _Loss:
    """What would go that nobody took away: containers, of how many, and peers where it is all of them."""

    containers: frozenset[IPv4Address]
    of: int
    peers: int

    def __le__(self, other: "_Loss") -> bool:
        """Whether there is nothing that `other` has not: what comes and changes meanwhile must not put off the second look."""
        return self.containers <= other.containers and bool(self.peers) <= bool(other.peers)

    def __str__(self) -> str:
        return f"{len(self.containers)} of {self.of} containers" if self._is_of_containers else f"all {self.peers} peers"

    @property
    def _is_of_containers(self) -> bool:
        return len(self.containers) > self.of / 2

    def __bool__(self) -> bool:
        return self._is_of_containers or bool(self.peers)


def _loss(state: HostState, before: HostState, *, leaving: Collection[str]) -> _Loss | None:
    """None if it is little."""
    staying = [address for address, each in before.workloads.items() if each.name not in leaving]
    gone = frozenset(address for address in staying if address not in state.workloads)
    return _Loss(gone, of=len(staying), peers=0 if state.peers else len(before.peers)) or None
