"""What may leave the overlay: rights towards the outside as rules and the judge of live flows ask for them. Pure.

Both ask here, and so agree. Worked out once for a set of rights, which many workloads share, and kept for as long as it lives:
every turn asks for those of all containers.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from dataplane.memo import Memo
from dataplane.network_set import NetworkSet
from dataplane.sets.known_names import KnownNames
from dataplane.state import HostState, OutsideRight

LINK_LOCAL: Final = IPv4Network("169.254.0.0/16")


def is_possible(state: HostState) -> bool:
    """Whether anything may leave the overlay."""
    return state.egress_allowed or next((True for each in state.workloads.values() if each.egress), False)


def never(state: HostState) -> tuple[IPv4Network, ...]:
    """What is never reached by what leaves the overlay, besides the overlay itself and the peers; ascending."""
    return _ascending(state.never_outside, state.overlay)


@lru_cache(maxsize=4)
def _ascending(networks: tuple[IPv4Network, ...], overlay: IPv4Network) -> tuple[IPv4Network, ...]:
    return tuple(sorted({LINK_LOCAL, *networks} - {overlay}))


class WaysOut:
    """Networks and names by protocol and ports, to look addresses up in."""

    def __init__(self, rights: Iterable[OutsideRight]) -> None:
        self._by_protocol: dict[str, list[tuple[int, int, list[int], list[int]]]] = {}
        self._named: list[OutsideRight] = []
        for right in rights:
            if right.names:
                self._named.append(right)
                continue
            starts = [int(each.network_address) for each in right.networks]  # ascending, and apart
            ends = [int(each.broadcast_address) for each in right.networks]
            self._by_protocol.setdefault(right.protocol, []).append((right.first, right.last, starts, ends))

    def lead_to(self, address: IPv4Address, *, protocol: str, port: int, known: KnownNames | None = None) -> bool:
        """Whether one of the rights is that to this port of that address, or of a name that is `known` to stand for it."""
        return self._has(address, protocol, port) or (
            known is not None
            and any(
                right.protocol == protocol and right.first <= port <= right.last and known.lead_to(address, names=right.names)
                for right in self._named
            )
        )

    def _has(self, address: IPv4Address, protocol: str, port: int) -> bool:
        number = int(address)
        return any(
            first <= port <= last and (place := bisect_right(starts, number)) and number <= ends[place - 1]
            for first, last, starts, ends in self._by_protocol.get(protocol, ())
        )


_ways: Memo[frozenset[OutsideRight], WaysOut] = Memo(WaysOut)


class WayOut:
    """What the containers of one cell may reach outside, at one moment."""

    def __init__(self, state: HostState, *, known: KnownNames | None = None) -> None:
        self._state, self._known = state, known
        self._never: NetworkSet | None = None  # peers may be many, and most cells' flows stay inside

    def is_open(self, source: IPv4Address, to: IPv4Address, *, protocol: str, port: int) -> bool:
        """Whether the container at `source` may begin a flow to a port outside."""
        state = self._state
        is_tunnel = state.tunnel is not None and (protocol, port) == ("udp", state.tunnel.port)
        if is_tunnel or not self.is_outside(to):
            return False
        rights = state.workloads[source].egress
        return state.egress_allowed or _ways.of(rights).lead_to(to, protocol=protocol, port=port, known=self._known)

    def is_outside(self, address: IPv4Address) -> bool:
        """Whether any right may lead to an address."""
        if self._never is None:
            self._never = NetworkSet((self._state.overlay, *never(self._state), *_peers(self._state)))
        return address not in self._never


def _peers(state: HostState) -> Iterator[IPv4Network]:
    if state.tunnel is not None:
        yield from map(IPv4Network, state.peers.values())
