"""Pairs of apps as labels of metrics: so many at the most, whatever containers call. All that is no app is `outside`.

What comes first keeps its label, so that a counter never goes down; each source has a share of the room, and takes no other's.
"""

from collections import Counter
from typing import NamedTuple

MOST, OF_ONE_SOURCE = 400, 40
OUTSIDE, OTHER = "outside", "other"


class AppPair(NamedTuple):
    """Apps as org/space/app, or one of the two words above."""

    source: str
    to: str


class AppPairs:
    """One per metric."""

    def __init__(self, *, most: int = MOST, of_one_source: int = OF_ONE_SOURCE) -> None:
        self._most = most
        self._of_one_source = of_one_source
        self._known: set[AppPair] = set()
        self._of = Counter[str]()

    def label(self, source: str, to: str) -> AppPair:
        """The pair itself, where there is room for it. Addresses and names outside are one."""
        pair = AppPair(named_end(source), named_end(to))
        if pair in self._known:
            return pair
        if len(self._known) >= self._most:
            return AppPair(OTHER, OTHER)
        if self._of[pair.source] >= self._of_one_source:
            return AppPair(pair.source, OTHER)
        self._known.add(pair)
        self._of[pair.source] += 1
        return pair


def named_end(end: str) -> str:
    """The app itself, or the word for all that is none: apps alone have two slashes in their names."""
    return end if end.count("/") == 2 else OUTSIDE
