"""Many networks, asked often whether an address lies in one of them: cells' parts of the overlay, a thousand of them. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network


class Networks:
    """By their lengths, of which there is one as a rule: a question costs the same however many networks there are."""

    def __init__(self, networks: Iterable[IPv4Network]) -> None:
        self._starts: dict[int, set[int]] = {}
        for each in networks:
            self._starts.setdefault(int(each.netmask), set()).add(int(each.network_address))

    def __contains__(self, address: IPv4Address) -> bool:
        number = int(address)
        return any(number & mask in starts for mask, starts in self._starts.items())
