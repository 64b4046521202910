"""How much each cell writes: one that floods etcd costs all others work, and is named."""

from collections import Counter
from collections.abc import Callable, Iterator

WINDOW = 10.0  # seconds
FEW = 1_000  # changes in that time; a cell may besides take all that it has away and put it back, twice


class WriteRates:
    """`now`: seconds of a clock that is not set."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()  # in the window before

    def count(self, cell: str) -> None:
        """One change of a cell's records."""
        self._turn()
        self._counts[cell] += 1

    @property
    def total(self) -> int:
        """The changes of all cells in this window so far, or in the one before where those are more."""
        self._turn()
        return max(self._counts.total(), self._before.total())

    def floods(self, room: Callable[[str], int]) -> Iterator[tuple[str, int]]:
        """Cells that write more than any cell with `room` for its containers needs to, and how often in a window."""
        self._turn()
        for cell in sorted(self._counts | self._before):
            most = max(self._counts[cell], self._before[cell])
            if most > max(FEW, 4 * room(cell)):
                yield cell, most

    def _turn(self) -> None:
        now = self._now()
        if now - self._began >= WINDOW:
            self._before = self._counts if now - self._began < 2 * WINDOW else Counter()
            self._counts, self._began = Counter(), now
