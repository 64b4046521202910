"""What follows from a value, kept for as long as that very object lives.

By identity: a `WeakKeyDictionary` finds a frozenset of rights only by comparing it with the one it holds, element by element,
and every turn asks for those of all containers. Whoever hands in an equal object gets an equal answer, worked out anew.
"""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ref

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Answers of `work_out`, by the object asked about. An entry goes with its object, before another can have its address."""

    def __init__(self, work_out: Callable[[K], V]) -> None:
        self._work_out = work_out
        self._found: dict[int, tuple[ref[K], V]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def of(self, about: K) -> V:
        """Worked out once."""
        number = id(about)
        found = self._found.get(number)
        if found is None:
            forget = self._found.pop
            found = self._found[number] = (ref(about, lambda _: forget(number, None)), self._work_out(about))
        return found[1]
