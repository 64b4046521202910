"""What has changed between two tuples of policies: the stretch that is not the same, found without looking at each policy.

The policies in force are the files' one after the other, then the store's: a change is one stretch, however many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Difference(Generic[Item]):
    """`removed` stood where `added` stands now, at `place`; what is before and behind is the same."""

    place: int
    removed: tuple[Item, ...]
    added: tuple[Item, ...]


def difference(old: tuple[Item, ...], new: tuple[Item, ...]) -> Difference[Item]:
    """What turns `old` into `new`."""
    before = _shared(old, new)
    behind = _shared(old[before:][::-1], new[before:][::-1])
    return Difference(before, old[before : len(old) - behind], new[before : len(new) - behind])


def _shared(one: Sequence[Item], other: Sequence[Item]) -> int:
    """How many both begin with. Slices are compared by identity first, in C."""
    sure, most = 0, min(len(one), len(other))
    while sure < most:
        middle = (sure + most + 1) // 2
        if one[sure:middle] == other[sure:middle]:
            sure = middle
        else:
            most = middle - 1
    return sure
