"""Whose each instance's number is, of the cells that publish instances with it.

Each cell must be able to claim a number that is free, and etcd's roles know no "only where nothing is": a cell may write over
another's claim, and publish instances with any numbers. So a number stays the cell's whose claim was seen first, for as long as
that cell has such an instance; a number that none has claimed is every instance's that is published with it.
"""

from collections import Counter
from collections.abc import Collection

from agent.model.names import AppName
from agent.store.protocols import IndexStore

Number = tuple[AppName, int]


class NumberOwners:
    """Kept from turn to turn: `count` what comes and goes, then `judge`."""

    def __init__(self, claims: IndexStore) -> None:
        self._claims = claims
        self._instances: Counter[tuple[Number, str]] = Counter()  # of a cell
        self._owners: dict[Number, str] = {}
        self._touched: set[Number] = set()

    def count(self, number: Number, *, cell: str, more: int) -> None:
        """So many more instances of that cell have the number."""
        self._touched.add(number)
        self._instances[number, cell] += more
        if not self._instances[number, cell]:
            del self._instances[number, cell]

    def judge(self) -> Collection[Number]:
        """The numbers that are another cell's than before."""
        changed, touched = [], self._touched | self._claims.take_claimed()
        self._touched = set()
        for number in touched:
            before = self._owners.get(number)
            if before is not None and self._instances[number, before]:
                continue
            now = self._claims.claimant(*number)
            if now == before:
                continue
            if now is None:
                del self._owners[number]
            else:
                self._owners[number] = now
            changed.append(number)
        return changed

    def owner(self, number: Number) -> str | None:
        """The cell whose it is; None where no claim says."""
        return self._owners.get(number)
