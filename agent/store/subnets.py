"""Which part of the overlay a cell gets: one pure rule for every store.

Packets to a cell are routed by its part, so that of a removed cell must not pass to another while a route, a packet or a
connection may still mean the old one by it: never-used parts first, given-back ones only after a week.
"""

from collections.abc import Collection, Iterable, Mapping
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
    """The cell's own, whether it rests or not: no other cell can be meant by it."""
    mine = [subnet for subnet, claim in claims.items() if claim.cell == cell]
    return min((each for each in mine if fits(each, network=network, cell_prefix=cell_prefix)), default=None)


def choose(claims: Claims, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
    """The cell's own, else the first that was never used, else the one that has rested longest, a week at least.

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
    spans = {subnet: _span(subnet, network=network, cell_prefix=cell_prefix) for subnet in others if subnet.overlaps(network)}
    place = _gap(spans.values(), begin, count)
    if place is None:
        rested = {subnet for subnet in spans if _has_rested(others[subnet], now=now)}
        kept = [span for subnet, span in spans.items() if subnet not in rested]
        longest = sorted(rested, key=lambda subnet: (others[subnet].released or 0.0, subnet))
        places = (_gap(kept, max(spans[subnet].start, begin), spans[subnet].stop) for subnet in longest)
        place = next((each for each in places if each is not None), None)
    if place is None:
        raise _full([others[subnet] for subnet in spans], network=network, cell_prefix=cell_prefix)
    return IPv4Network((int(network.network_address) + (place << (32 - cell_prefix)), cell_prefix))


def _has_rested(claim: SubnetClaim, *, now: float) -> bool:
    return claim.released is not None and now - claim.released >= REST


def _span(subnet: IPv4Network, *, network: IPv4Network, cell_prefix: int) -> range:
    """The network's parts, counted from 0, that it overlaps."""
    base, size = int(network.network_address), 32 - cell_prefix
    last = min(int(subnet.broadcast_address), int(network.broadcast_address))
    return range((max(int(subnet.network_address), base) - base) >> size, ((last - base) >> size) + 1)


def _gap(spans: Iterable[range], begin: int, end: int) -> int | None:
    """The first of `begin` to before `end` that is in none of the spans."""
    place = begin
    for span in sorted(spans, key=lambda span: span.start):
        if span.start <= place < span.stop:
            place = span.stop
    return place if place < end else None


def _full(others: Collection[SubnetClaim], *, network: IPv4Network, cell_prefix: int) -> Conflict:
    resting = sum(claim.released is not None for claim in others)
    rest = f", and {resting} of removed ones rest for a week" if resting else ""
    return Conflict(
        f"no /{cell_prefix} is left in {network}: {len(others) - resting} cells have one{rest}",
        hint="remove cells that are gone, or choose a larger overlay.network",
    )
