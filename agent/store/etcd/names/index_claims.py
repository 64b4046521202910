"""Which attachment has which instance's number, as the claims say: decoded when it is asked, as most never are.

Every cell may write claims. One holds only as long as its cell is there and, if that is alive, runs the attachment; else any
other may take the number. So a cell that claims without end keeps no number from the others for longer than a minute.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from agent.model.attachment import INSTANCE_LIMIT
from agent.model.names import AppName
from agent.store.etcd.cells import CellsAndEndpoints
from agent.store.etcd.client import Value
from agent.store.etcd.keys import Keys
from agent.store.etcd.names import records as name_records
from agent.store.etcd.names.records import IndexClaim
from agent.store.etcd.records import MalformedRecord
from agent.store.etcd.write_rates import WINDOW, WriteRates

PENDING = 60.0  # seconds from a claim until what it is for must run
FEW = 1_000  # claims of a cell; or four times as many as it has room for containers

Instance = tuple[AppName, int]


class IndexClaims:
    """`own` are those of `cell`, by instance. `malformed` is key -> why. `now`: seconds of a clock that is not set."""

    def __init__(self, keys: Keys, *, cell: str, cells: CellsAndEndpoints, now: Callable[[], float]) -> None:
        self._keys = keys
        self._cell = cell
        self._cells = cells
        self._now = now
        self._rates = WriteRates(now)
        self._cell_of: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._since: dict[str, float] = {}
        self._claimed: set[Instance] = set()
        self.own: dict[Instance, IndexClaim] = {}
        self.malformed: dict[str, str] = {}

    def update(self, changed: Iterable[str], values: Mapping[str, Value]) -> list[Instance]:
        """Take what has changed; the instances that it is about."""
        found = (self._read(key, values.get(key)) for key in changed if key.startswith(self._keys.indexes))
        return [instance for instance in found if instance is not None]

    def _read(self, key: str, value: Value | None) -> Instance | None:
        self.malformed.pop(key, None)
        self._since.pop(key, None)
        before, claim = self._cell_of.pop(key, None), None
        instance = self._instance(key)
        try:
            if value is not None:
                if instance is None:
                    raise MalformedRecord("it is no instance's key")
                claim, self._since[key] = decode(value.data), self._now()
                self._cell_of[key] = claim.cell
        except ValueError as error:
            self.malformed[key] = str(error)
        if before is not None:
            self._counts[before] -= 1
        if claim is not None:
            self._counts[claim.cell] += 1
        if (writer := before if claim is None else claim.cell) is not None:
            self._rates.count(writer)
        if instance is not None:
            if before != (None if claim is None else claim.cell):
                self._claimed.add(instance)
            self.own.pop(instance, None)
            if claim is not None and claim.cell == self._cell:
                self.own[instance] = claim
        return instance

    def _instance(self, key: str) -> Instance | None:
        app, _, number = key.removeprefix(self._keys.indexes).rpartition("/")
        try:
            found = AppName.parse(app), int(number)
        except ValueError:
            return None
        return found if self._keys.index(*found) == key and found[1] <= INSTANCE_LIMIT else None

    def holder(self, key: str, value: Value | None, instance: Instance) -> IndexClaim | None:
        """Whose the number is as `value` says, the record with this key; None where another may take it."""
        try:
            claim = None if value is None else decode(value.data)
        except ValueError:
            return None
        if claim is None or claim.cell == self._cell:
            return claim
        is_dead = claim.cell in self._cells.names and self._cells.alive_since(claim.cell) is None
        if is_dead or self._cells.has_instance(claim.cell, claim.name, *instance):
            return claim
        return claim if self._now() - self._since.get(key, self._now()) < PENDING else None

    def of(self, cell: str) -> list[str]:
        """The keys of a cell's claims."""
        return [key for key, its in self._cell_of.items() if its == cell]

    def claimant(self, instance: Instance) -> str | None:
        """The cell that has claimed it, whether that holds or not."""
        return self._cell_of.get(self._keys.index(*instance))

    def take_claimed(self) -> frozenset[Instance]:
        """See IndexStore."""
        claimed = frozenset(self._claimed)
        self._claimed.clear()
        return claimed

    def floods(self) -> Iterator[str]:
        """In words, which cells claim or write too much."""
        for cell, changes in self._rates.floods(self._cells.room):
            yield f"cell {cell} floods etcd: {changes} changes of instances' numbers in its name in {WINDOW:g} seconds"
        for cell, count in self._counts.items():
            if count > max(FEW, 4 * self._cells.room(cell)):
                room = f"has room for {self._cells.room(cell)} containers"
                yield f"cell {cell} has claimed {count} instances' numbers, as the claims say, and {room}"


@lru_cache(maxsize=8192)
def decode(data: bytes) -> IndexClaim:
    """Kept, as the search for a free number asks for the same ones again and again. Raises ValueError."""
    return name_records.decode_index(Value(data, 0))
