"""Containers of other cells that are not what they were: what they had open must not pass to the next owner of their address.

A cell that is only out of touch has taken nothing away: its containers run on, and what they have open stays. What became of
them is decided when it is back, and has had the time to announce them. After an outage of the store one look may see both: that
its lease has ended, with all that stood on it, and that it gives signs of life again.
"""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address

from agent.model.cell import Cell
from agent.model.names import AppName
from agent.store.protocols import CellStore

ANNOUNCE_SECONDS = 30.0  # seconds that a cell has to announce what runs there, once it is back


class Departures:
    """`owner` is the cell that an address belongs to, if any, `cells` are all others; `elapsed` is a clock in seconds that
    never jumps.
    """

    def __init__(
        self,
        store: CellStore,
        *,
        owner: Callable[[IPv4Address], Cell | None],
        cells: Callable[[], Iterable[Cell]],
        elapsed: Callable[[], float],
    ) -> None:
        self._store = store
        self._owner = owner
        self._cells = cells
        self._signs: dict[str, float | None] = {}  # since when the cells were alive, at the last look
        self._elapsed = elapsed
        self._first = True
        self._unclear: dict[IPv4Address, float | None] = {}  # since when its cell is back, None while it is not

    def take(self, tags: Mapping[AppName, int]) -> Mapping[IPv4Address, int]:
        """Address -> the tag that it has now, 0 for none: flows from any other tag are not its own.

        The first time of all: every address that is known, as what has changed before was not seen.
        """
        gone, running, back_again = self._store.take_departed(), self._store.endpoints(), self._back_again()
        known: dict[IPv4Address, int] = {}
        if self._first:  # what went while no agent was here is among the gone, as far as the copy on disk knows
            self._first = False
            known = {address: tags[each.app] for address, each in running.items() if each.app in tags}
        for address in gone:
            self._unclear.setdefault(address, None)
        found: dict[IPv4Address, int] = {}
        for address, back in list(self._unclear.items()):
            endpoint, cell = running.get(address), self._owner(address)
            is_alive = cell is not None and cell.alive_since is not None
            if endpoint is not None and endpoint.app in tags:
                found[address] = tags[endpoint.app]
            elif endpoint is not None:
                continue  # its tag has not come yet
            elif address in gone and cell is not None and is_alive and cell.record.name not in back_again:
                found[address] = 0  # its cell has reported that itself: one without a record may be back soon
            elif cell is not None and not is_alive:  # an address of no cell needs none that announces what runs there
                self._unclear[address] = None
            elif back is None:
                self._unclear[address] = self._elapsed()
            elif self._elapsed() - back >= ANNOUNCE_SECONDS:
                found[address] = 0
        for address in found:
            del self._unclear[address]
        return known | found

    def _back_again(self) -> frozenset[str]:
        """The cells whose signs of life are not those of the last look."""
        before, self._signs = self._signs, {each.record.name: each.alive_since for each in self._cells()}
        return frozenset(name for name, since in self._signs.items() if before.get(name, since) != since)

    def wait(self) -> float | None:
        """Seconds until something will be clear, None if nothing will by itself."""
        due = [back + ANNOUNCE_SECONDS for back in self._unclear.values() if back is not None]
        return max(min(due) - self._elapsed(), 0.0) if due else None
