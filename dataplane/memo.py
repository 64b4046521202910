"""Results of a function, cached for as long as the very object lives that they follow from.

By identity: a `WeakKeyDictionary` finds a frozenset of rights only by comparing it with the one it holds, element by element,
and every turn asks for those of all containers. For an equal object an equal result is worked out anew.
"""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ref

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Results of `function` by its argument. An entry goes with its object, before another object can have its address."""

    def __init__(self, function: Callable[[K], V]) -> None:
        self._function = function
        self._found: dict[int, tuple[ref[K], V]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def of(self, argument: K) -> V:
        """The result, worked out at the first call."""
        number = id(argument)
        found = self._found.get(number)
        if found is None:
            forget = self._found.pop
            found = self._found[number] = (ref(argument, lambda _: forget(number, None)), self._function(argument))
        return found[1]
