"""Names in an order in which those that lie below one stand together."""

from bisect import bisect_left, insort
from collections.abc import Iterator

from agent.store.etcd.keys import backwards, forwards


class NameOrder:
    """A set of host names. A change costs a search and a move of what stands behind it."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def add(self, host: str) -> None:
        """One that is there is fine."""
        name = backwards(host)
        place = bisect_left(self._names, name)
        if place == len(self._names) or self._names[place] != name:
            insort(self._names, name)

    def discard(self, host: str) -> None:
        """One that is not there is fine."""
        name = backwards(host)
        place = bisect_left(self._names, name)
        if place < len(self._names) and self._names[place] == name:
            del self._names[place]

    def below(self, host: str) -> Iterator[str]:
        """Those that lie below it."""
        start = backwards(host) + "/"
        place = bisect_left(self._names, start)
        while place < len(self._names) and self._names[place].startswith(start):
            yield forwards(self._names[place])
            place += 1
