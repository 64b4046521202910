"""The copy on disk, in the cell's own SQLite file, for a start while etcd does not answer. Each change writes what it changes.

It is not synced: it must outlive the agent, and costs no waiting. After a power loss it may lack the last changes, which
matters only if etcd is gone as well.
"""

from collections.abc import Iterable
from types import MappingProxyType

from agent import log
from agent.errors import HostRefused
from agent.store.database import Database
from agent.store.etcd.client import Value
from agent.store.etcd.mirror import Copy

WRITE = "INSERT OR REPLACE INTO shared (key, data, revision, lease) VALUES (?, ?, ?, ?)"
MARK = "INSERT OR REPLACE INTO meta (key, value) VALUES ('shared', ?)"


class Kept:
    """One per store. What cannot be written is tried again, all of it, with the next change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._behind = False

    def load(self) -> Copy | None:
        """What was kept; None before the first. Raises HostRefused."""
        found = self._database.read("SELECT value FROM meta WHERE key = 'shared'")
        if not found:
            return None
        revision, cluster = map(int, str(found[0]["value"]).split())
        rows = self._database.read("SELECT key, data, revision, lease FROM shared")
        values = {row["key"]: Value(bytes(row["data"]), row["revision"], row["lease"]) for row in rows}
        return Copy(MappingProxyType(values), revision, cluster)

    def keep(self, changed: Iterable[str], copy: Copy) -> None:
        """Write what has changed; a disk that refuses does not stop what is in force."""
        try:
            with self._database.transaction(durable=False) as connection:
                if self._behind:
                    connection.execute("DELETE FROM shared")
                for key in list(copy.values) if self._behind else changed:
                    value = copy.values.get(key)
                    if value is None:
                        connection.execute("DELETE FROM shared WHERE key = ?", (key,))
                    else:
                        connection.execute(WRITE, (key, value.data, value.revision, value.lease))
                connection.execute(MARK, (f"{copy.revision} {copy.cluster}",))
            self._behind = False
        except HostRefused as error:
            if not self._behind:
                log.get("store").warning("shared_copy_not_kept", what=error.what)
            self._behind = True
