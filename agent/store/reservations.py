"""What is reserved on this cell for containers of engines, by their names: kept over a power loss, as the engines keep them."""

from collections.abc import Mapping

from pydantic import TypeAdapter

from agent.model.reservation import Reservation
from agent.store.database import Database

DOCUMENT: TypeAdapter[Reservation] = TypeAdapter(Reservation)


class Reservations:
    """A write raises HostRefused when the file cannot be written, and has then changed nothing; so does a read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[str, Reservation]:
        """By name, in order."""
        rows = self._database.read("SELECT name, document FROM reservations ORDER BY name")
        return {row["name"]: DOCUMENT.validate_json(row["document"]) for row in rows}

    def get(self, name: str) -> Reservation | None:
        """That of a name."""
        rows = self._database.read("SELECT document FROM reservations WHERE name = ?", name)
        return DOCUMENT.validate_json(rows[0]["document"]) if rows else None

    def put(self, reservation: Reservation) -> None:
        """In place of the one of the same name, for the next container of that name."""
        with self._database.transaction(durable=True) as connection:
            document = DOCUMENT.dump_json(reservation).decode()
            connection.execute("INSERT OR REPLACE INTO reservations VALUES (?, ?)", (reservation.name, document))

    def drop(self, name: str) -> bool:
        """False if there was none."""
        with self._database.transaction(durable=True) as connection:
            return connection.execute("DELETE FROM reservations WHERE name = ?", (name,)).rowcount > 0
