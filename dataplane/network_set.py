"""Whether an address lies in one of many networks: cells' parts of the overlay, a thousand of them. Asked often. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network


class NetworkSet:
    """Networks by prefix length, of which there is one as a rule: a look-up costs the same however many networks there are."""

    def __init__(self, networks: Iterable[IPv4Network]) -> None:
        self._starts: dict[int, set[int]] = {}
        for each in networks:
            self._starts.setdefault(int(each.netmask), set()).add(int(each.network_address))

    def __contains__(self, address: IPv4Address) -> bool:
        number = int(address)
        return any(number & mask in starts for mask, starts in self._starts.items())
