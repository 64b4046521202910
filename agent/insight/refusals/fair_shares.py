"""So many entries, of which each source has a share: what one makes without end drives out its own before another's."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from agent.insight.refusals.app_pairs import named_end

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class FairShares(Generic[Key, Value]):
    """In the order in which they were put. Where there are more than `most`, the oldest of the source that has most goes; with
    `keeps_first` its newest, and what is put again stays where it is.

    All that is no app is one source: of addresses there may be any number.
    """

    def __init__(self, most: int, *, keeps_first: bool = False) -> None:
        self._most = most
        self._keeps_first = keeps_first
        self._all = OrderedDict[Key, Value]()
        self._shares: dict[str, OrderedDict[Key, None]] = {}
        self._of_size: dict[int, dict[str, None]] = {}
        self._largest = 0

    def __len__(self) -> int:
        return len(self._all)

    def get(self, key: Key) -> Value | None:
        """None where it is not there."""
        return self._all.get(key)

    def items(self) -> Iterator[tuple[Key, Value]]:
        """In their order."""
        yield from self._all.items()

    def put(self, key: Key, value: Value, *, source: str) -> Value | None:
        """In the place of what has its key, which is always of one source; what had to go for it."""
        share = named_end(source)
        own = self._shares.setdefault(share, OrderedDict())
        is_new = key not in own
        self._all[key], own[key] = value, None
        if is_new:
            self._resize(share, len(own) - 1, len(own))
        elif not self._keeps_first:
            self._all.move_to_end(key)
            own.move_to_end(key)
        return self._give_up() if len(self._all) > self._most else None

    def _give_up(self) -> Value:
        share = next(iter(self._of_size[self._largest]))
        own = self._shares[share]
        key, _ = own.popitem(last=self._keeps_first)
        self._resize(share, len(own) + 1, len(own))
        if not own:
            del self._shares[share]
        return self._all.pop(key)

    def _resize(self, share: str, before: int, now: int) -> None:
        if before:
            del self._of_size[before][share]
            if not self._of_size[before]:
                del self._of_size[before]
        if now:
            self._of_size.setdefault(now, {})[share] = None
        if now > self._largest or self._largest not in self._of_size:
            self._largest = now
