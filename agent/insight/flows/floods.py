"""Which containers begin so much that others' events find no room: of theirs only some are passed on, until they do less."""

from collections import Counter
from ipaddress import IPv4Address
from typing import Final

from dataplane.flows.event_filter import MOST_FLOODING, SAMPLE

LASTS: Final = 1.0  # seconds without a flood, after which it is over


class Floods:
    """`most` events of one container, in one second, are no flood."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._until: dict[IPv4Address, float] = {}
        self._judged = 0.0

    @property
    def flooding(self) -> frozenset[IPv4Address]:
        """Those whose events are passed on in part."""
        return frozenset(self._until)

    def judge(self, events: Counter[IPv4Address], *, pressed: bool, now: float) -> frozenset[IPv4Address]:
        """Take in what was heard since the last time, of whom; `now` is in seconds. Gives those that flood from now on.

        Where much still waits (`pressed`), those that have sent most of it do, until what is left is no more than half.
        """
        took, self._judged = max(now - self._judged, 0.001), now
        for source, count in events.items():
            if source in self._until and count * SAMPLE > self._most * took:
                self._until[source] = now + LASTS
        self._until = {each: until for each, until in self._until.items() if until > now}
        if not pressed:
            return frozenset()
        found, left = set[IPv4Address](), events.total()
        for source, count in events.most_common(MOST_FLOODING):
            if 2 * left <= events.total() or len(self._until) >= MOST_FLOODING:
                break
            left -= count
            if source not in self._until:
                self._until[source] = now + LASTS
                found.add(source)
        return frozenset(found)
