"""Who changed which policies of the store, in the cell's own file: the newest of it."""

from collections.abc import Sequence

from agent.model.credentials import StoreCredentials
from agent.store.database import Database
from agent.store.protocols import MOST_CHANGES
from agent.store.refusals import refuse_credentials


class SqliteTrail:
    """A TrailStore on an open Database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_change(self, data: bytes, *, writer: StoreCredentials | None = None) -> None:
        """See TrailStore."""
        refuse_credentials(writer)
        with self._database.transaction(durable=False) as connection:
            connection.execute("INSERT INTO policy_changes (data) VALUES (?)", (data,))
            connection.execute(
                "DELETE FROM policy_changes WHERE sequence <= (SELECT max(sequence) FROM policy_changes) - ?", (MOST_CHANGES,)
            )

    async def changes(self) -> Sequence[bytes]:
        """See TrailStore."""
        return [bytes(row["data"]) for row in self._database.read("SELECT data FROM policy_changes ORDER BY sequence")]
