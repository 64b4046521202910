"""A second look before most peers or most containers go at once without a request.

The store and the ledger are believed, but a reading that lost most of what there was is likelier a mistake than a wish. Such a
state is put off until it has been so for a while; what there was stays meanwhile, and `status` reports it. A detach is such a
request and never waits. Pure but for what it remembers.
"""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from agent.errors import Unavailable
from agent.model.status import Part, Problem, as_problems
from dataplane.state import HostState, MutualTls

WAIT = 1.0  # seconds until the second look


class MassLossGuard(Part):
    """One per loop."""

    def __init__(self) -> None:
        self._doubted: _Loss | None = None
        self._since = 0.0
        self.problem: Unavailable | None = None

    def problems(self) -> tuple[Problem, ...]:
        """What is put off."""
        return as_problems("store", self.problem)

    def wait(self, *, now: float) -> float | None:
        """Seconds until what is doubted should be looked at again, None if nothing is."""
        return None if self._doubted is None else max(self._since + WAIT - now, 0.0)

    def guarded(self, state: HostState, *, before: HostState | None, leaving: Collection[str], now: float) -> HostState:
        """`state`, or with what there was `before` while it is doubted. `leaving` are containers that are to go."""
        loss = None if before is None else _loss(state, before, leaving=leaving, doubting=self._doubted is not None)
        if loss is None or before is None:
            self._doubted, self.problem = None, None
            return state
        if self._doubted is None or not loss <= self._doubted or loss.peers < self._doubted.peers:
            self._since = now  # where a peer has come back, the others may be about to
        self._doubted = loss
        if now - self._since >= WAIT:
            self._doubted, self.problem = None, None
            return state
        self.problem = Unavailable(f"{loss} would go at once: it is done if it is still so in a moment", hint="wait a second")
        kept = {address: each for address, each in before.workloads.items() if each.name not in leaving}
        asked = before.workloads.keys() - kept.keys()
        named = {address: names for address, names in before.names.items() if address not in asked}
        return replace(
            state,
            workloads=kept | dict(state.workloads),
            groups={**before.groups, **state.groups},  # a kept container may have rights of a group that no other refers to
            peers={**before.peers, **state.peers},
            names=named | dict(state.names),
            mutual_tls=_with_exempt(state.mutual_tls, before.mutual_tls.exempt & (before.peers.keys() - state.peers.keys())),
        )


def _with_exempt(mutual_tls: MutualTls, kept: AbstractSet[IPv4Network]) -> MutualTls:
    """Peers that are kept take no more tunnels than they did."""
    return replace(mutual_tls, exempt=mutual_tls.exempt | kept) if mutual_tls.redirected and mutual_tls.plain else mutual_tls


@dataclass(frozen=True, slots=True)
class _Loss:
    """What would go without a request: containers and peers, each of how many; where peers are `few`, they do not count."""

    containers: frozenset[IPv4Address]
    of: int
    peers: frozenset[IPv4Network]
    of_peers: int
    few: bool

    def __le__(self, other: "_Loss") -> bool:
        """Whether there is nothing that `other` has not: what comes and changes meanwhile must not put off the second look."""
        return self.containers <= other.containers and self.peers <= other.peers

    def __str__(self) -> str:
        if self._is_of_containers:
            return f"{len(self.containers)} of {self.of} containers"
        lost = len(self.peers)
        return f"all {lost} peers" if lost == self.of_peers else f"{lost} of {self.of_peers} peers"

    @property
    def _is_of_containers(self) -> bool:
        return len(self.containers) > self.of / 2

    def __bool__(self) -> bool:
        return self._is_of_containers or (bool(self.peers) and not self.few)


def _loss(state: HostState, before: HostState, *, leaving: Collection[str], doubting: bool) -> _Loss | None:
    """None if it is little. Of peers that went together the last ones are doubted as all of them were."""
    staying = [address for address, each in before.workloads.items() if each.name not in leaving]
    gone = frozenset(address for address in staying if address not in state.workloads)
    peers = frozenset(before.peers.keys() - state.peers.keys())
    few = not doubting and len(peers) <= len(before.peers) / 2
    return _Loss(gone, of=len(staying), peers=peers, of_peers=len(before.peers), few=few) or None
