"""Which cells' records have which underlay address, in the order in which this cell saw them take it.

A cell writes its own record, and root on one cell may write another's address there. A revision does not say which of the two
had it first: an honest cell writes its record anew with each version of the agent. So this cell goes by what it saw.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address


class UnderlayAddresses:
    """Kept as the records change."""

    def __init__(self) -> None:
        self._of: dict[str, IPv4Address] = {}
        self._at: dict[IPv4Address, list[str]] = {}

    def update(self, name: str, address: IPv4Address | None) -> set[str]:
        """A cell's record has this address now, None without a record; the other cells that are to be judged anew."""
        before = self._of.get(name)
        if address == before:
            return set()
        touched = set[str]()
        if before is not None:
            del self._of[name]
            self._at[before].remove(name)
            touched.update(self._at[before])
            if not self._at[before]:
                del self._at[before]
        if address is not None:
            self._of[name] = address
            touched.update(self._at.setdefault(address, []))
            self._at[address].append(name)
        return touched

    def beside(self, name: str) -> Sequence[str]:
        """All cells at one's address, itself too, the first to have it first."""
        address = self._of.get(name)
        return () if address is None else self._at[address]

    def shared(self) -> tuple[str, ...]:
        """The cells whose address another one has, too, of each address the first to have it first."""
        return tuple(name for names in self._at.values() if len(names) > 1 for name in names)
