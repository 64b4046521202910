"""The cell's part of the overlay in 16 blocks: a chain that finds a container by its address in two steps has at most 32 rules
on the way among 256 containers."""

from collections.abc import Collection, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network


def by_block(subnet: IPv4Network, addresses: Collection[IPv4Address]) -> Iterable[tuple[IPv4Network, list[IPv4Address]]]:
    """Each block with those that are in it, ascending."""
    blocks = _blocks(subnet)
    members: list[list[IPv4Address]] = [[] for _ in blocks]
    size = blocks[0].num_addresses
    for address in sorted(addresses, key=int):
        members[(int(address) - int(subnet.network_address)) // size].append(address)
    return zip(blocks, members, strict=True)


@lru_cache(maxsize=8)
def _blocks(subnet: IPv4Network) -> tuple[IPv4Network, ...]:
    return tuple(subnet.subnets(new_prefix=min(subnet.prefixlen + 4, 32)))
