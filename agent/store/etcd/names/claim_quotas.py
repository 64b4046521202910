"""How many claims count: a cell that claims without end must not cost the others more than so much work and memory.

By whom a claim is only its own record says, so all together are bounded, too.
"""

from collections import Counter
from collections.abc import Iterator

EACH = 5_000  # of one cell
ALL = 50_000


class ClaimQuotas:
    """By the keys of the records."""

    def __init__(self, *, each: int = EACH, all_together: int = ALL) -> None:
        self._each = each
        self._all = all_together
        self._cell_of: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._excess: dict[str, dict[str, None]] = {}  # keys by cell, in order
        self._excess_cell_of: dict[str, str] = {}

    def is_full(self, cell: str) -> bool:
        """Whether no more of this cell's claims count."""
        return self._counts[cell] >= self._each or len(self._cell_of) >= self._all

    def count(self, cell: str) -> int:
        """How many claims of the cell count."""
        return self._counts[cell]

    def admit(self, key: str, cell: str) -> bool:
        """Whether the claim counts; one that does not waits. It is no longer what it was before, if it was there."""
        if self._cell_of.get(key) == cell:
            return True
        self.remove(key)
        if not self.is_full(cell):
            self._cell_of[key] = cell
            self._counts[cell] += 1
            return True
        self._excess.setdefault(cell, {})[key] = None
        self._excess_cell_of[key] = cell
        return False

    def remove(self, key: str) -> None:
        """The claim is gone, whether it counted or not."""
        cell = self._cell_of.pop(key, None)
        if cell is not None:
            self._counts[cell] -= 1
        waiting = self._excess_cell_of.pop(key, None)
        if waiting is not None:
            del self._excess[waiting][key]
            if not self._excess[waiting]:
                del self._excess[waiting]

    def waiting(self) -> str | None:
        """A claim that does not count though there is room for it by now."""
        if len(self._cell_of) >= self._all:
            return None
        return next((next(iter(keys)) for cell, keys in self._excess.items() if not self.is_full(cell)), None)

    def excess(self) -> Iterator[tuple[str, int, int]]:
        """Cell, how many of its claims count, and how many do not."""
        for cell, keys in sorted(self._excess.items()):
            yield cell, self._counts[cell], len(keys)
