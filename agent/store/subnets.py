"""Which part of the overlay a cell gets: one pure rule for every store.

The others' packets to a cell go by its part, so what a removed cell had must not pass to another while a route, a packet or a
connection may still mean the old one by it: never-used parts first, given-back ones only after a week.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from agent.errors import Conflict, InvalidInput

REST = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class SubnetClaim:
    """Whose it is: the cell's lasting id, and its name where one was announced. `released` is when that cell was removed
    (seconds since 1970), None while it has not been."""

    cell: str
    name: str = ""
    released: float | None = None


Claims = Mapping[IPv4Network, SubnetClaim]


def fits(subnet: IPv4Network, *, network: IPv4Network, cell_prefix: int) -> bool:
    """Whether a claim made earlier still holds under today's configuration."""
    return subnet.prefixlen == cell_prefix and subnet.subnet_of(network)


def held(claims: Claims, cell: str, *, network: IPv4Network, cell_prefix: int) -> IPv4Network | None:
    """The cell's own, whether it rests or not: nobody else can mean anything by it."""
    mine = [subnet for subnet, claim in claims.items() if claim.cell == cell]
    return min((each for each in mine if fits(each, network=network, cell_prefix=cell_prefix)), default=None)


def choose(claims: Claims, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
    """The cell's own, else the first that nobody ever had, else the one that has rested longest, a week at least.

    The network's own first one is left out unless it is all there is. Raises InvalidInput where the prefix does not fit the
    network, Conflict when all are taken.
    """
    mine = held(claims, cell, network=network, cell_prefix=cell_prefix)
    if mine is not None:
        return mine
    if not network.prefixlen <= cell_prefix <= 30:
        raise InvalidInput(
            f"a cell's /{cell_prefix} does not fit into the overlay {network}",
            hint=f"overlay.cell_prefix must be {network.prefixlen} to 30",
        )
    others = {subnet: claim for subnet, claim in claims.items() if claim.cell != cell}
    count = 1 << (cell_prefix - network.prefixlen)
    begin = 1 if count > 1 else 0
    used = _places(others, network=network, cell_prefix=cell_prefix)
    place = next((each for each in range(begin, count) if each not in used), None)
    if place is None:
        rested = {subnet: claim.released for subnet, claim in others.items() if _has_rested(claim, now=now)}
        kept = _places(others.keys() - rested.keys(), network=network, cell_prefix=cell_prefix)
        ends = {
            each: released or 0.0
            for subnet, released in sorted(rested.items(), key=lambda held: held[1] or 0.0)
            for each in _places([subnet], network=network, cell_prefix=cell_prefix)
        }
        free = sorted((released, each) for each, released in ends.items() if each >= begin and each not in kept)
        if not free:
            raise _full(others, network=network, cell_prefix=cell_prefix)
        place = free[0][1]
    return IPv4Network((int(network.network_address) + (place << (32 - cell_prefix)), cell_prefix))


def _has_rested(claim: SubnetClaim, *, now: float) -> bool:
    return claim.released is not None and now - claim.released >= REST


def _places(subnets: Iterable[IPv4Network], *, network: IPv4Network, cell_prefix: int) -> set[int]:
    """Which of the network's parts, counted from 0, these overlap."""
    base, size, found = int(network.network_address), 32 - cell_prefix, set[int]()
    for subnet in subnets:
        if subnet.overlaps(network):
            first, last = int(subnet.network_address), int(subnet.broadcast_address)
            last = min(last, int(network.broadcast_address))
            found.update(range((max(first, base) - base) >> size, ((last - base) >> size) + 1))
    return found


def _full(others: Claims, *, network: IPv4Network, cell_prefix: int) -> Conflict:
    resting = sum(claim.released is not None for claim in others.values())
    rest = f", and {resting} of removed ones rest for a week" if resting else ""
    return Conflict(
        f"no /{cell_prefix} is left in {network}: {len(others) - resting} cells have one{rest}",
        hint="remove cells that are gone, or choose a larger overlay.network",
    )
