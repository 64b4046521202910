"""Which calls `explain --try` has made, by the port that they came from: so that what is refused of them is told as such."""

from collections import OrderedDict
from ipaddress import IPv4Address
from typing import Final

KEPT: Final = 256
TRIED: Final = "by `explain --try`"


class TriedCalls:
    """The last of them. One thread adds, another asks."""

    def __init__(self) -> None:
        self._ports: OrderedDict[tuple[IPv4Address, int], None] = OrderedDict()

    def add(self, source: IPv4Address, port: int) -> None:
        """One begins."""
        self._ports[source, port] = None
        while len(self._ports) > KEPT:
            self._ports.popitem(last=False)

    def has(self, source: IPv4Address, port: int) -> bool:
        """Whether what comes from there may be of one."""
        return (source, port) in self._ports
