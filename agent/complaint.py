"""What fails again and again is logged once in full, then not at all, and its recovery is one event.

Several things that fail apart from each other (containers, files) have a key each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import NoReturn, Protocol

import structlog

from agent.errors import RAISED
from agent.pacing import Backoff


class Complaint(Protocol):
    """What is wrong and what to do: the errors of agent/errors.py, and whatever else has these two fields."""

    what: str
    hint: str


class Complaints:
    """Logs the event `failed` when a failure is new or has changed, and `recovered`, if it has a name, when it is over."""

    def __init__(self, logger: structlog.typing.FilteringBoundLogger, *, failed: str, recovered: str = "") -> None:
        self._log = logger
        self._failed = failed
        self._recovered = recovered
        self._standing: dict[Hashable, Complaint] = {}

    @property
    def standing(self) -> Mapping[Hashable, Complaint]:
        """What fails now, by its key."""
        return self._standing

    def about(self, complaint: Complaint, *, key: Hashable = None, **fields: object) -> None:
        """A failure, as it is now; `fields` go into the log besides."""
        known = self._standing.get(key)
        if known is None or known.what != complaint.what:
            self._log.error(self._failed, what=complaint.what, hint=complaint.hint, **fields)
        self._standing[key] = complaint

    def over(self, *, key: Hashable = None, **fields: object) -> None:
        """There is no failure any more. Nothing to log where there was none."""
        complaint = self._standing.pop(key, None)
        if complaint is not None and self._recovered:
            self._log.info(self._recovered, what=complaint.what, **fields)

    def over_for_all_but(self, keys: Collection[Hashable]) -> None:
        """Only what is in `keys` still fails, or is still there."""
        for key in self._standing.keys() - set(keys):
            self.over(key=key)


async def follow_changes(changed: asyncio.Event, do: Callable[[], Awaitable[None]], *, complaints: Complaints) -> NoReturn:
    """`do` once each time that there are changes, for ever; what fails is done again after a pause."""
    backoff = Backoff()
    while True:
        await changed.wait()
        changed.clear()
        try:
            await do()
        except RAISED as error:
            complaints.about(error)
            await asyncio.sleep(backoff.next())
            changed.set()
        else:
            complaints.over()
            backoff.reset()
