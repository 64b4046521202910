"""What is reserved on this cell for containers of engines, by their names: kept over a power loss, as the engines keep them.

Written by the ledger (agent/store/ledger.py), whose addresses they have.
"""

import sqlite3
from collections.abc import Mapping

from pydantic import TypeAdapter

from agent.model.reservation import Reservation
from agent.store.database import NEVER, Database

DOCUMENT: TypeAdapter[Reservation] = TypeAdapter(Reservation)


class Reservations:
    """A read raises HostRefused when the file cannot be read and never was."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = NEVER  # of what other processes have written
        self._changed = False  # by this one, maybe
        self._all: Mapping[str, Reservation] = {}

    def all(self) -> Mapping[str, Reservation]:
        """By name, in order. Every attach asks, so they are decoded once."""
        with self._database.kept("reservations", was_read=self._version != NEVER):
            version = self._database.foreign_version()
            if version != self._version or self._changed:
                rows = self._database.read("SELECT name, document FROM reservations ORDER BY name")
                self._all = {row["name"]: DOCUMENT.validate_json(row["document"]) for row in rows}
                self._version, self._changed = version, False
        return self._all

    def get(self, name: str) -> Reservation | None:
        """That of a name."""
        return self.all().get(name)

    def put(self, connection: sqlite3.Connection, reservation: Reservation) -> None:
        """In a transaction: in place of the one of the same name, for the next container of that name. Then call `forget`."""
        document, place = DOCUMENT.dump_json(reservation).decode(), reservation.place
        values = (reservation.name, document, None if place is None else int(place.address))
        connection.execute("INSERT OR REPLACE INTO reservations (name, document, address) VALUES (?, ?, ?)", values)

    def drop(self, connection: sqlite3.Connection, name: str) -> None:
        """In a transaction. Absent is fine. Then call `forget`."""
        connection.execute("DELETE FROM reservations WHERE name = ?", (name,))

    def forget(self) -> None:
        """What was decoded: a transaction has come to its end."""
        self._changed = True
