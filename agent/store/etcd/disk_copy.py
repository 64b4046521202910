"""The copy on disk, in the cell's own SQLite file, for a start while etcd does not answer. Each change writes what it changes.

It is not synced: it must outlive the agent, and costs no waiting. After a power loss it may lack the last changes, which
matters only if etcd is gone as well.
"""

import sqlite3
from collections.abc import Iterable
from types import MappingProxyType

from agent import log
from agent.errors import HostRefused
from agent.store.database import Database
from agent.store.etcd.client import Value
from agent.store.etcd.copied import Copy, Held

WRITE = "INSERT OR REPLACE INTO shared (key, data, revision, lease) VALUES (?, ?, ?, ?)"
HOLD = "INSERT OR REPLACE INTO held (key, data, revision, lease) VALUES (?, ?, ?, ?)"
SINCE = "INSERT OR REPLACE INTO meta (key, value) VALUES ('held', ?)"
MARK = "INSERT OR REPLACE INTO meta (key, value) VALUES ('shared', ?)"


class Kept:
    """One per store. What cannot be written is tried again, all of it, with the next change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._behind = False
        self._held: set[str] = set()  # the keys that are on the disk
        self._last_held: Held | None = None

    def load(self) -> tuple[Copy, Held] | None:
        """What was kept; None before the first. Raises HostRefused."""
        found = self._database.read("SELECT value FROM meta WHERE key = 'shared'")
        if not found:
            return None
        revision, cluster = map(int, str(found[0]["value"]).split())
        rows = self._database.read("SELECT key, data, revision, lease FROM shared")
        values = {row["key"]: Value(bytes(row["data"]), row["revision"], row["lease"]) for row in rows}
        return Copy(MappingProxyType(values), revision, cluster), self._load_held()

    def _load_held(self) -> Held:
        since = self._database.read("SELECT value FROM meta WHERE key = 'held'")
        rows = self._database.read("SELECT key, data, revision, lease FROM held")
        self._held = {row["key"] for row in rows}
        held = {
            row["key"]: None if row["data"] is None else Value(bytes(row["data"]), row["revision"], row["lease"])
            for row in rows
        }
        self._last_held = Held(held, int(since[0]["value"]) if since else 0)
        return self._last_held

    def keep(self, changed: Iterable[str], copy: Copy, held: Held) -> None:
        """Write what has changed; a disk that refuses does not stop what is in force."""
        try:
            with self._database.transaction(durable=False) as connection:
                if self._behind:
                    connection.execute("DELETE FROM shared")
                self._write(connection, list(copy.values) if self._behind else changed, copy)
                self._write_held(connection, held)
                connection.execute(MARK, (f"{copy.revision} {copy.cluster}",))
            self._held, self._behind = set(held.values), False
        except HostRefused as error:
            if not self._behind:
                log.get("store").warning("shared_copy_not_kept", what=error.what)
            self._behind = True

    @staticmethod
    def _write(connection: sqlite3.Connection, keys: Iterable[str], copy: Copy) -> None:
        there, gone = list[tuple[str, bytes, int, int]](), list[tuple[str]]()
        for key in keys:
            value = copy.values.get(key)
            if value is None:
                gone.append((key,))
            else:
                there.append((key, value.data, value.revision, value.lease))
        connection.executemany("DELETE FROM shared WHERE key = ?", gone)
        connection.executemany(WRITE, there)

    def _write_held(self, connection: sqlite3.Connection, held: Held) -> None:
        """It begins with a loss, all at once, and then only becomes less."""
        if held is not self._last_held or self._behind:
            connection.execute("DELETE FROM held")
            rows = [
                (key, *((None, 0, 0) if each is None else (each.data, each.revision, each.lease)))
                for key, each in held.values.items()
            ]
            connection.executemany(HOLD, rows)
            connection.execute(SINCE, (str(held.after),))
        else:
            connection.executemany("DELETE FROM held WHERE key = ?", [(key,) for key in self._held - held.values.keys()])
        self._last_held = held
