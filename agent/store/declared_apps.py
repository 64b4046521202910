"""The apps that an operator has declared on this cell: they have their tags as if they were there, before they ever ran.

In the cell's own file, whatever the store: the other cells learn of them as of everything that this one needs (ADR 12).
"""

from collections.abc import Collection
from contextlib import suppress

from agent.errors import HostRefused
from agent.model.names import AppName, Space
from agent.store.database import NEVER, Database


class DeclaredApps:
    """A write raises HostRefused when the file cannot be written, and has then changed nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = NEVER
        self._all = frozenset[AppName]()

    def all(self) -> frozenset[AppName]:
        """The same object as long as nothing changed; what was read last where the file cannot be read."""
        with suppress(HostRefused):
            version = self._database.foreign_version()
            if version != self._version:
                rows = self._database.read("SELECT app FROM declared_apps")
                self._take(frozenset(AppName.parse(row["app"]) for row in rows))
                self._version = version
        return self._all

    def declare(self, space: Space, apps: Collection[AppName]) -> None:
        """These are the declared ones of a space from now on, and no others. They are kept over a power loss."""
        after = frozenset(each for each in self.all() if Space.of(each) != space) | frozenset(apps)
        with self._database.transaction(durable=True) as connection:
            gone = [(str(each),) for each in self._all - after]
            connection.executemany("DELETE FROM declared_apps WHERE app = ?", gone)
            come = [(str(each),) for each in after - self._all]
            connection.executemany("INSERT OR IGNORE INTO declared_apps (app) VALUES (?)", come)
        self._take(after)

    def _take(self, after: frozenset[AppName]) -> None:
        self._all = self._all if after == self._all else after
