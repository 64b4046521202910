"""What a cell keeps of etcd: the records that are in force, and the copy of them on the cell's disk.

In force is what etcd has, but for what is held since etcd lost data. The copy is in the cell's SQLite file, for a start while
etcd does not answer; each change writes what it changes. It is not synced: it must outlive the agent, and costs no waiting.
After a power loss it may lack the last changes, which matters only if etcd is gone as well.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from agent import log
from agent.complaint import Complaints
from agent.errors import HostRefused
from agent.store.database import Database
from agent.store.etcd.client import Reading, Value

Row = tuple[str, bytes | None, int, int, int]

WRITE = "INSERT OR REPLACE INTO shared (key, data, revision, lease, created) VALUES (?, ?, ?, ?, ?)"
HOLD = "INSERT OR REPLACE INTO held (key, data, revision, lease, created) VALUES (?, ?, ?, ?, ?)"
SINCE = "INSERT OR REPLACE INTO meta (key, value) VALUES ('held', ?)"
FIRST = "INSERT OR REPLACE INTO meta (key, value) VALUES ('underlays', ?)"
CLAIM = "INSERT OR REPLACE INTO first_claims (key, owner) VALUES (?, ?)"
MARK = "INSERT OR REPLACE INTO meta (key, value) VALUES ('shared', ?)"


@dataclass(frozen=True, slots=True)
class FirstSeen:
    """What this cell goes by because it saw it first, where records that came later say otherwise.

    `underlays` are cells that share an underlay address, of each address the first to have it first; `claims` has the owner of
    a name by the key of its claim.
    """

    underlays: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldRecords:
    """Records that are in force otherwise than etcd has them, until they are written after `after`. None: not in force."""

    values: dict[str, Value | None] = field(default_factory=dict)
    after: int = 0


class RecordsInForce(Mapping[str, Value]):
    """What the cell goes by. A live view."""

    def __init__(self, values: Mapping[str, Value], held: Mapping[str, Value | None]) -> None:
        self._values = values
        self._held = held

    def __getitem__(self, key: str) -> Value:
        found = self._held[key] if key in self._held else self._values[key]
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self._values if key not in self._held)
        yield from (key for key, value in self._held.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class DiskCopy:
    """One per store. What cannot be written is written with the next change, with all the rest."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._behind = False
        self._held_keys: set[str] = set()  # that are on the disk
        self._held: HeldRecords | None = None  # that was written last
        self._first = FirstSeen()  # that is on the disk
        self._complaints = Complaints(log.get("store"), failed="disk_copy_failed", recovered="disk_copy_recovered")

    def load(self) -> tuple[Reading, HeldRecords] | None:
        """What was kept; None before the first. Raises HostRefused."""
        found = self._database.read("SELECT value FROM meta WHERE key = 'shared'")
        if not found:
            return None
        revision, cluster = map(int, str(found[0]["value"]).split())
        rows = self._database.read("SELECT key, data, revision, lease, created FROM shared")
        values = {row["key"]: _value(row) for row in rows}
        return Reading(MappingProxyType(values), revision, cluster), self._load_held()

    def load_first(self) -> FirstSeen:
        """See there. Raises HostRefused."""
        found = self._database.read("SELECT value FROM meta WHERE key = 'underlays'")
        claims = self._database.read("SELECT key, owner FROM first_claims")
        underlays = tuple(str(found[0]["value"]).split()) if found else ()
        self._first = FirstSeen(underlays, {row["key"]: row["owner"] for row in claims})
        return self._first

    def _load_held(self) -> HeldRecords:
        since = self._database.read("SELECT value FROM meta WHERE key = 'held'")
        rows = self._database.read("SELECT key, data, revision, lease, created FROM held")
        held = {row["key"]: None if row["data"] is None else _value(row) for row in rows}
        self._held, self._held_keys = HeldRecords(held, int(since[0]["value"]) if since else 0), set(held)
        return self._held

    def keep(
        self,
        changed: Iterable[str],
        copy: Reading,
        held: HeldRecords,
        *,
        first: FirstSeen = FirstSeen(),
    ) -> None:
        """Write what has changed; a disk that refuses does not stop what is in force."""
        try:
            with self._database.transaction(durable=False) as connection:
                if self._behind:
                    connection.execute("DELETE FROM shared")
                self._write(connection, list(copy.values) if self._behind else changed, copy)
                self._write_held(connection, held)
                self._write_first(connection, first)
                connection.execute(MARK, (f"{copy.revision} {copy.cluster}",))
            self._held_keys, self._first, self._behind = set(held.values), first, False
            self._complaints.over()
        except HostRefused as error:
            self._complaints.about(error)
            self._behind = True

    @staticmethod
    def _write(connection: sqlite3.Connection, keys: Iterable[str], copy: Reading) -> None:
        there, gone = list[Row](), list[tuple[str]]()
        for key in keys:
            value = copy.values.get(key)
            if value is None:
                gone.append((key,))
            else:
                there.append(_row(key, value))
        connection.executemany("DELETE FROM shared WHERE key = ?", gone)
        connection.executemany(WRITE, there)

    def _write_first(self, connection: sqlite3.Connection, first: FirstSeen) -> None:
        if first.underlays != self._first.underlays:
            connection.execute(FIRST, (" ".join(first.underlays),))
        if first.claims is not self._first.claims:
            before, after = self._first.claims.items(), first.claims.items()
            connection.executemany("DELETE FROM first_claims WHERE key = ?", [(key,) for key, _ in before - after])
            connection.executemany(CLAIM, list(after - before))

    def _write_held(self, connection: sqlite3.Connection, held: HeldRecords) -> None:
        """It begins with a loss, all at once, and then only becomes less."""
        if held is not self._held or self._behind:
            connection.execute("DELETE FROM held")
            connection.executemany(HOLD, [_row(key, value) for key, value in held.values.items()])
            connection.execute(SINCE, (str(held.after),))
        else:
            gone = self._held_keys - held.values.keys()
            connection.executemany("DELETE FROM held WHERE key = ?", [(key,) for key in gone])
        self._held = held


def _row(key: str, value: Value | None) -> Row:
    return (key, None, 0, 0, 0) if value is None else (key, value.data, value.revision, value.lease, value.created)


def _value(row: sqlite3.Row) -> Value:
    return Value(bytes(row["data"]), row["revision"], row["lease"], row["created"])
