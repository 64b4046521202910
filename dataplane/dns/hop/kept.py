"""Answers that are kept for a while, no more than there is room for: those that nothing has asked for longest go first."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from dataplane.dns.hop.messages import FoundAddresses

Key = TypeVar("Key", bound=Hashable)
ROOM: Final = 200_000  # addresses, and one more for each answer: a name's owner chooses how many it has


class KeptAnswers(Generic[Key]):
    """Each with the moment at which it is over."""

    def __init__(self, *, room: int = ROOM) -> None:
        self._left = room
        self._kept: OrderedDict[Key, tuple[FoundAddresses, float]] = OrderedDict()

    def get(self, key: Key) -> tuple[FoundAddresses, float] | None:
        """What was put there last, though it may be over."""
        return self._kept.get(key)

    def put(self, key: Key, found: FoundAddresses, *, end: float) -> None:
        """In place of what was there."""
        before = self._kept.pop(key, None)
        self._left += 0 if before is None else _room_of(before[0])
        self._kept[key] = found, end
        self._left -= _room_of(found)
        while self._left < 0:
            _, (gone, _) = self._kept.popitem(last=False)
            self._left += _room_of(gone)


def _room_of(found: FoundAddresses) -> int:
    return 1 + len(found.addresses)
