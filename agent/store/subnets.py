"""Which part of the overlay a cell gets: one pure rule for every store."""

from collections.abc import Collection
from ipaddress import IPv4Network

from agent.errors import Conflict, InvalidInput


def fits(subnet: IPv4Network, *, network: IPv4Network, cell_prefix: int) -> bool:
    """Whether a claim made earlier still holds under today's configuration."""
    return subnet.prefixlen == cell_prefix and subnet.subnet_of(network)


def first_free(taken: Collection[IPv4Network], *, network: IPv4Network, cell_prefix: int) -> IPv4Network:
    """The first /cell_prefix that overlaps none of `taken`, the network's own first one left out unless it is all there is.

    Raises InvalidInput where the prefix does not fit the network, Conflict when all are taken.
    """
    if not network.prefixlen <= cell_prefix <= 30:
        raise InvalidInput(
            f"a cell's /{cell_prefix} does not fit into the overlay {network}",
            hint=f"overlay.cell_prefix must be {network.prefixlen} to 30",
        )
    step = 1 << (32 - cell_prefix)
    begin = int(network.network_address) + (step if cell_prefix > network.prefixlen else 0)
    for start in range(begin, int(network.broadcast_address) + 1, step):
        subnet = IPv4Network((start, cell_prefix))
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise Conflict(
        f"no /{cell_prefix} is left in {network}: {len(taken)} cells have one",
        hint="remove cells that are gone, or choose a larger overlay.network",
    )
