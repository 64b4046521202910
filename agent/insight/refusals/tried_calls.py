"""Which calls `explain --try` has made: so that what is refused of them is told as such, and is nobody's wish.

The kernel's refusals are known by the port that the call came from, a ping's by its number; Envoy's
have none, and are known by where it went.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final, NamedTuple

KEPT: Final = 256
LASTS: Final = 10.0  # seconds within which Envoy has reported a call
TRIED: Final = "by `explain --try`"


class TriedWay(NamedTuple):
    """From one container to a TCP port of another."""

    source: IPv4Address
    to: IPv4Address
    port: int


class TriedCalls:
    """The last of them. One thread adds, another asks. `elapsed` is in seconds and never jumps."""

    def __init__(self, *, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._ports: OrderedDict[tuple[IPv4Address, int], TriedWay] = OrderedDict()
        self._ways: deque[tuple[float, TriedWay]] = deque(maxlen=KEPT)

    def add(self, way: TriedWay, from_port: int) -> None:
        """One begins."""
        self._ports[way.source, from_port] = way
        while len(self._ports) > KEPT:
            self._ports.popitem(last=False)
        self._ways.append((self._elapsed(), way))

    def has(self, source: IPv4Address, port: int) -> bool:
        """Whether what comes from there may be of one."""
        return (source, port) in self._ports

    def is_of(self, way: TriedWay, from_port: int) -> bool:
        """Whether a flow from there is one."""
        return self._ports.get((way.source, from_port)) == way

    def take(self, way: TriedWay) -> bool:
        """Whether one went there a moment ago. Of each that is so once: the next refusal is another call's."""
        while self._ways and self._elapsed() - self._ways[0][0] > LASTS:
            self._ways.popleft()
        found = next((each for each in tuple(self._ways) if each[1] == way), None)
        if found is not None:
            self._ways.remove(found)
        return found is not None
