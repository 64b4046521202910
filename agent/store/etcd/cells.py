"""The cells and what runs on them, as their records say and as far as they may say it: kept as it changes.

A cell writes its own record and endpoints, and whoever holds one cell may write whatever there. So each is judged by more than
its word: its part of the overlay is that which is claimed for its id and its name, its endpoints are inside that, and an older
claim wins over one that overlaps it. What fails is left out, and named in `malformed` with the reason.
"""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from agent.model.cell import Cell, CellRecord, Endpoint
from agent.store.etcd import records
from agent.store.etcd.client import Value
from agent.store.etcd.keys import ALIVE, RECORD, Keys
from agent.store.etcd.subnet_claims import Allotment

Running = Mapping[IPv4Address, Endpoint]


class Census:
    """`mine` is the cell whose store this is, `own` has the keys of its records; `overlay`, where known, holds all subnets."""

    def __init__(self, keys: Keys, *, mine: str, overlay: IPv4Network | None = None) -> None:
        self._keys = keys
        self._mine = mine
        self._overlay = overlay
        self._names: dict[str, set[str]] = {}
        self._records: dict[str, CellRecord] = {}
        self._alive: dict[str, float] = {}
        self._told: dict[str, dict[str, Endpoint]] = {}
        self._illegible: dict[str, str] = {}
        self._wrong: dict[str, dict[str, str]] = {}
        self._cells: dict[str, Cell] = {}
        self._running: dict[str, Running] = {}
        self._endpoints: dict[IPv4Address, Endpoint] = {}
        self._departed: set[IPv4Address] = set()
        self._listed: tuple[Cell, ...] | None = ()
        self.own = set[str]()
        self.allotment = Allotment(keys)
        self.endpoints: Running = MappingProxyType(self._endpoints)

    @property
    def malformed(self) -> dict[str, str]:
        """Key -> why, of what is left out."""
        judged = {key: why for found in self._wrong.values() for key, why in found.items()}
        return self._illegible | self.allotment.illegible | judged

    @property
    def names(self) -> Collection[str]:
        """Cells of which there is any record, even one that makes no sense."""
        return self._names.keys()

    @property
    def records(self) -> Mapping[str, CellRecord]:
        """Every record that can be read, believed or not."""
        return self._records

    def alive_since(self, name: str) -> float | None:
        """Since when a cell's lease has held, whatever else it says; None if it does not."""
        return self._alive.get(name)

    def living(self) -> Iterable[CellRecord]:
        """Records of the cells that are believed and alive."""
        return (each.record for each in self._cells.values() if each.alive_since is not None)

    def cells(self) -> tuple[Cell, ...]:
        """By name; the same object as long as nothing changed."""
        if self._listed is None:
            self._listed = tuple(self._cells[name] for name in sorted(self._cells))
        return self._listed

    def take_departed(self) -> frozenset[IPv4Address]:
        """See Store."""
        departed = frozenset(self._departed)
        self._departed.clear()
        return departed

    def update(self, changed: Iterable[str], values: Mapping[str, Value]) -> bool:
        """Decode what has changed, then judge the cells that it touches; whether it means anything else than before."""
        touched, reallotted = set[str](), set[IPv4Network]()
        mine = (self._keys.cell(self._mine), self._keys.endpoints_of(self._mine))
        for key in changed:
            if key.startswith(mine):
                self.own.add(key) if key in values else self.own.discard(key)
            if key.startswith(self._keys.endpoints):
                touched.add(self._read_endpoint(key, values.get(key)))
            elif key.startswith(self._keys.cells):
                touched.add(self._read_cell(key, values.get(key)))
            elif key.startswith(self._keys.subnets):
                reallotted |= self.allotment.update(key, values.get(key))
        if reallotted:
            touched.update(name for name, record in self._records.items() if record.subnet in reallotted)
        return self._judge(touched) or bool(reallotted)

    def _read_cell(self, key: str, value: Value | None) -> str:
        name, _, what = key.removeprefix(self._keys.cells).partition("/")
        self._illegible.pop(key, None)
        known = self._names.setdefault(name, set())
        known.discard(key) if value is None else known.add(key)
        if not known:
            del self._names[name]
        try:
            if what == RECORD:
                self._records.pop(name, None)
                if value is not None:
                    self._records[name] = records.record(name, value)
            elif what == ALIVE:
                self._alive.pop(name, None)
                if value is not None:
                    self._alive[name] = records.alive(value)
        except ValueError as error:
            self._illegible[key] = str(error)
        return name

    def _read_endpoint(self, key: str, value: Value | None) -> str:
        cell, _, name = key.removeprefix(self._keys.endpoints).partition("/")
        self._illegible.pop(key, None)
        told = self._told.setdefault(cell, {})
        told.pop(key, None)
        if value is not None:
            try:
                told[key] = records.endpoint(cell, name, value)
            except ValueError as error:
                self._illegible[key] = str(error)
        if not told:
            del self._told[cell]
        return cell

    def _judge(self, touched: Collection[str]) -> bool:
        before = {name: self._running.pop(name, {}) for name in touched}
        changed = False
        for name in touched:
            changed |= self._judge_cell(name)
        gone = {address: each for name in touched for address, each in before[name].items()}
        come = {address: each for name in touched for address, each in self._running.get(name, {}).items()}
        if gone == come:
            return changed
        for address in gone.keys() - come.keys():
            del self._endpoints[address]
        self._endpoints.update(come)
        self._departed.update(
            address
            for address, each in gone.items()
            if each.cell != self._mine and (address not in come or come[address].app != each.app)
        )
        return True

    def _judge_cell(self, name: str) -> bool:
        """Whether the cell itself is another than before."""
        record, wrong = self._records.get(name), dict[str, str]()
        why = None if record is None else self._why_not(record)
        if why is not None:
            wrong[self._keys.record(name)] = why
        cell = None if record is None or why is not None else Cell(record, self._alive.get(name))
        if cell is not None and cell.alive_since is not None:
            running = self._believed(cell.record, self._told.get(name, {}), wrong)
            if running:
                self._running[name] = running
        self._wrong.pop(name, None)
        if wrong:
            self._wrong[name] = wrong
        if cell == self._cells.get(name):
            return False
        self._listed = None
        if cell is None:
            del self._cells[name]
        else:
            self._cells[name] = cell
        return True

    def _why_not(self, record: CellRecord) -> str | None:
        overlay = self._overlay
        if overlay is not None and not record.subnet.subnet_of(overlay):
            return f"its subnet {record.subnet} is no part of this overlay, {overlay}: overlay.network must be the same on all"
        if overlay is not None and record.underlay in overlay:
            return f"its underlay address {record.underlay} is in the overlay"
        return self.allotment.why_not(record)

    def _believed(self, record: CellRecord, told: Mapping[str, Endpoint], wrong: dict[str, str]) -> Running:
        """Those inside the cell's own part of the overlay, where containers have their addresses, one for each."""
        first, last = int(record.subnet.network_address) + 2, int(record.subnet.broadcast_address) - 1
        running: dict[IPv4Address, Endpoint] = {}
        for key, each in sorted(told.items()):
            if not first <= int(each.address) <= last:
                wrong[key] = f"its address {each.address} is no container's of {record.subnet}"
            elif each.address in running:
                wrong[key] = f"its address {each.address} is that of {running[each.address].name} too"
            else:
                running[each.address] = each
        return running
