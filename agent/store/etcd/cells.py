"""Cells and their endpoints, decoded from records and checked against the subnet claims; kept as they change.

A cell writes its own record and endpoints, and root on one cell may write there whatever it likes. So no record is taken as it
is: a cell's part of the overlay is that which is claimed for its id and its name, its endpoints are inside that, and an older
claim wins over one that overlaps it. An underlay address is that of the living cell that had it first; this cell's own is
no other cell's. What fails is left out, and named in `malformed` with the reason.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.names import AppName
from agent.model.routes import RouteDomains
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.cell_endpoints import CellEndpoints
from agent.store.etcd.client import Value, put, remove_below
from agent.store.etcd.keys import ALIVE, POLICIES, RECORD, Keys
from agent.store.etcd.names.holders import Holders
from agent.store.etcd.subnet_claims import SubnetClaims
from agent.store.etcd.transactions import Plan
from agent.store.etcd.underlay_addresses import UnderlayAddresses
from agent.store.etcd.write_rates import WINDOW, WriteRates
from agent.store.refusals import no_such_cell, still_alive

Endpoints = Mapping[IPv4Address, Endpoint]


class CellsAndEndpoints:
    """`own` has the keys of the records of `cell`, whose store this is. Where they are known, `overlay` contains all subnets
    and `domains` all routes. `now`: seconds of a clock that is not set."""

    def __init__(
        self,
        keys: Keys,
        *,
        cell: str,
        overlay: IPv4Network | None = None,
        domains: RouteDomains | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._cell = cell
        self._overlay = overlay
        self._domains = domains
        self._names: dict[str, set[str]] = {}
        self._records: dict[str, CellRecord] = {}
        self._alive: dict[str, float] = {}
        self._published: dict[str, CellEndpoints] = {}
        self._rates = WriteRates(now)
        self._malformed: dict[str, str] = {}
        self._refuted: dict[str, str] = {}
        self._cells: dict[str, Cell] = {}
        self._endpoints: dict[IPv4Address, Endpoint] = {}
        self._departed: set[IPv4Address] = set()
        self._policies: dict[str, bytes] = {}
        self._all_policies: Mapping[str, bytes] | None = None
        self._are_policies_other = False  # than at the last update
        self._sorted: tuple[Cell, ...] | None = ()
        self.own = set[str]()
        self.subnets = SubnetClaims(keys)
        self.underlays = UnderlayAddresses()
        self.holders = Holders()
        self.endpoints: Endpoints = MappingProxyType(self._endpoints)

    @property
    def malformed(self) -> dict[str, str]:
        """Key -> why, of what is left out."""
        published = {key: why for found in self._published.values() for key, why in found.left_out()}
        return self._malformed | self.subnets.malformed | self._refuted | published

    def floods(self) -> Iterator[str]:
        """In words, which cells write too much."""
        for name, changes in self._rates.floods(self.room):
            yield f"cell {name} floods etcd: {changes} changes of its endpoints in {WINDOW:g} seconds"

    def room(self, name: str) -> int:
        """How many containers a cell that publishes some has addresses for."""
        return self._published[name].room if name in self._published else 0

    def has_instance(self, cell: str, name: str, app: AppName, instance: int) -> bool:
        """Whether that attachment runs on that cell, and is this instance."""
        found = self._published[cell].get(name) if cell in self._published else None
        return found is not None and (found.app, found.instance) == (app, instance)

    @property
    def names(self) -> Collection[str]:
        """Cells of which there is any record, even a malformed one."""
        return self._names.keys()

    @property
    def records(self) -> Mapping[str, CellRecord]:
        """Every record that can be decoded, whether it holds or not."""
        return self._records

    def alive_since(self, name: str) -> float | None:
        """Since when a cell's lease has held, whatever its record; None if it does not."""
        return self._alive.get(name)

    def living(self) -> Iterable[CellRecord]:
        """Records of the cells that hold and are alive."""
        return (each.record for each in self._cells.values() if each.alive_since is not None)

    def cells(self) -> tuple[Cell, ...]:
        """By name; the same object as long as nothing changed."""
        if self._sorted is None:
            self._sorted = tuple(self._cells[name] for name in sorted(self._cells))
        return self._sorted

    def published_policies(self) -> Mapping[str, bytes]:
        """See CellStore."""
        if self._all_policies is None:
            self._all_policies = MappingProxyType(self._policies.copy())
        return self._all_policies

    def giving_signs(self) -> Mapping[str, CellRecord | None]:
        """See CellStore.living."""
        return {name: self._records.get(name) for name in sorted(self._alive)}

    def take_departed(self) -> frozenset[IPv4Address]:
        """See CellStore."""
        departed = frozenset(self._departed)
        self._departed.clear()
        return departed

    def update(self, changed: Iterable[str], values: Mapping[str, Value], *, first: Sequence[str] = ()) -> bool:
        """Decode what has changed, then judge the cells that it concerns; whether anything is other than before.

        Of cells that come with one underlay address, those in `first` had it first, in that order, then those of older records.
        """
        concerned, publishing, subnets, cells = set[str](), set[str](), set[IPv4Network](), list[str]()
        mine = (self._keys.cell(self._cell), self._keys.endpoints_of(self._cell))
        for key in changed:
            if key.startswith(mine):
                self.own.add(key) if key in values else self.own.discard(key)
            if key.startswith(self._keys.endpoints):
                publishing.add(self._read_endpoint(key, values.get(key)))
            elif key.startswith(self._keys.cells):
                cells.append(key)
            elif key.startswith(self._keys.subnets):
                subnets |= self.subnets.update(key, values.get(key))
        places = {self._keys.record(name): place - len(first) for place, name in enumerate(first)}
        for key in sorted(cells, key=lambda key: places.get(key, values[key].revision if key in values else 0)):
            concerned |= self._read_cell(key, values.get(key))
        if subnets:
            concerned.update(name for name, record in self._records.items() if record.subnet in subnets)
        concerned.update(other for name in tuple(concerned) for other in self.underlays.beside(name))
        shown, self._are_policies_other = self._are_policies_other, False
        return self._judge(concerned, publishing) or bool(subnets) or shown

    def removal(self, name: str, *, unchanged: Callable[[str], rpc.Compare], now: float) -> Plan:
        """The transaction that forgets a cell, whatever its record: all that it wrote, if it is still dead. Its subnet rests.

        Raises InvalidInput where it is not there, Conflict where it is alive. A subnet that was claimed under another name
        since (the host was renamed) is no longer this cell's to give back.
        """
        if name not in self.names:
            raise no_such_cell(name, known=self.names)
        if self.alive_since(name) is not None:
            raise still_alive(name)
        keys, record = self._keys, self._records.get(name)
        when = [unchanged(keys.alive(name)), unchanged(keys.record(name))]
        do = [remove_below(keys.cell(name)), remove_below(keys.endpoints_of(name))]
        for subnet, claim in self.subnets.claims.items():
            its = claim.name == name or (claim.name == "" and record is not None and claim.cell == record.id)
            if its and claim.released is None:
                when.append(unchanged(keys.subnet(subnet)))
                do.append(put(keys.subnet(subnet), records.encode_subnet(subnet, replace(claim, released=now))))
        return when, do

    def _read_cell(self, key: str, value: Value | None) -> set[str]:
        """The cells to be judged anew."""
        name, _, what = key.removeprefix(self._keys.cells).partition("/")
        self._malformed.pop(key, None)
        known = self._names.setdefault(name, set())
        known.discard(key) if value is None else known.add(key)
        if not known:
            del self._names[name]
        try:
            if what == RECORD:
                self._records.pop(name, None)
                if value is not None:
                    self._records[name] = records.decode_cell(name, value)
            elif what == POLICIES:
                self._policies.pop(name, None)
                self._all_policies, self._are_policies_other = None, True
                if value is not None:
                    self._policies[name] = records.bounded_policies(value)
            elif what == ALIVE:
                self._alive.pop(name, None)
                if value is not None:
                    self._alive[name] = records.decode_alive(value)
        except ValueError as error:
            self._malformed[key] = str(error)
        record = self._records.get(name)
        return {name, *self.underlays.update(name, None if record is None else record.underlay)}

    def _read_endpoint(self, key: str, value: Value | None) -> str:
        name = key.removeprefix(self._keys.endpoints).partition("/")[0]
        if name not in self._published:
            self._published[name] = CellEndpoints(name, self._keys.endpoints_of(name), domains=self._domains)
            self._place(name)
        self._published[name].update(key, value)
        self._rates.count(name)
        return name

    def _place(self, name: str) -> None:
        cell, published = self._cells.get(name), self._published.get(name)
        if published is not None:
            published.place(cell.record.subnet if cell is not None and cell.alive_since is not None else None)

    def _judge(self, concerned: Collection[str], publishing: Collection[str]) -> bool:
        changed = False
        for name in concerned:
            changed |= self._judge_cell(name)
        gone, come = dict[IPv4Address, Endpoint](), dict[IPv4Address, Endpoint]()
        for name in {*concerned, *publishing} & self._published.keys():
            for address, before, after in self._published[name].take_changes():
                gone |= {address: before} if before else {}
                come |= {address: after} if after else {}
            if not self._published[name].values:
                del self._published[name]
        if gone == come:
            return changed
        self._all_policies = None
        for address in gone.keys() - come.keys():
            del self._endpoints[address]
        self._endpoints.update(come)
        self.holders.change(gone.values(), come.values())
        self._departed.update(
            address
            for address, each in gone.items()
            if each.cell != self._cell and (address not in come or come[address].app != each.app)
        )
        return True

    def _judge_cell(self, name: str) -> bool:
        """Whether the cell itself is another than before."""
        record, key = self._records.get(name), self._keys.record(name)
        why = None if record is None else self._why_not(record) or self._why_not_there(record)
        self._refuted.pop(key, None)
        if why is not None:
            self._refuted[key] = why
        cell = None if record is None or why is not None else Cell(record, self._alive.get(name))
        if cell == self._cells.get(name):
            return False
        self._sorted = None
        if cell is None:
            del self._cells[name]
        else:
            self._cells[name] = cell
        self._place(name)
        return True

    def _why_not(self, record: CellRecord) -> str | None:
        overlay = self._overlay
        if overlay is not None and not record.subnet.subnet_of(overlay):
            return f"its subnet {record.subnet} is no part of this overlay, {overlay}: overlay.network must be the same on all"
        if overlay is not None and record.underlay in overlay:
            return f"its underlay address {record.underlay} is in the overlay"
        return self.subnets.why_not(record)

    def _why_not_there(self, record: CellRecord) -> str | None:
        """Whose underlay address it is: this cell's own, then that of a living one, then of the first to have it."""
        at = (each for each in self.underlays.beside(record.name) if self._why_not(self._records[each]) is None)
        holder = min(at, key=lambda each: (each != self._cell, each not in self._alive))
        return None if holder == record.name else f"its underlay address {record.underlay} is that of cell {holder}"
