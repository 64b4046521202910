"""Who changed which policies of the store, when and through which cell: kept in the store itself, for all cells.

The entry follows the change, with the same rights. Where the store does not take it the change stands all the same, and the
history of the cell says that it is missing; a program that writes the store without cellnet leaves none.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agent.errors import RAISED
from agent.insight.history.history import History
from agent.insight.history.on_disk import Caller, HistoryArea
from agent.model.credentials import StoreCredentials
from agent.store.protocols import TrailStore
from agent.wording import printable

NAMED: Final = 50  # policies of one change
_Word = Annotated[str, Field(max_length=256), AfterValidator(printable)]


class RecordedChange(BaseModel):
    """One, through the cell `cell`. `done` is `put`, `deleted` or `given up`; `more` policies are not among `names`. `user` is
    the store's user that came with the request, empty where the cell's own rights were used."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    cell: _Word
    done: _Word
    names: Annotated[tuple[_Word, ...], Field(max_length=NAMED)]
    more: int = 0
    uid: int
    pid: int
    command: _Word
    user: _Word = ""


@dataclass(frozen=True, slots=True)
class PolicyTrail:
    """One per agent. `now` is UTC."""

    store: TrailStore
    history: History
    cell: str
    now: Callable[[], datetime]

    async def add(self, done: str, names: Sequence[str], *, by: Caller, writer: StoreCredentials | None) -> None:
        """Once it is done. Raises nothing."""
        change = RecordedChange(
            at=self.now().replace(microsecond=0), cell=self.cell, done=done, names=tuple(names[:NAMED]),
            more=max(len(names) - NAMED, 0), uid=by.uid, pid=by.pid, command=by.command,
            user="" if writer is None or writer.username is None else writer.username,
        )  # fmt: skip
        try:
            await self.store.add_change(change.model_dump_json().encode(), writer=writer)
        except RAISED as error:
            self.history.add(HistoryArea.POLICIES, f"the store has not taken who changed a policy: {error.what}")

    async def changes(self) -> tuple[RecordedChange, ...]:
        """The oldest first; what makes no sense is left out. Raises Unavailable, HostRefused."""
        return tuple(_understood(await self.store.changes()))


def _understood(written: Sequence[bytes]) -> Iterator[RecordedChange]:
    for data in written:
        try:
            yield RecordedChange.model_validate_json(data)
        except ValidationError:
            continue
