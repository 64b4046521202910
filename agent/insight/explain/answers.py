"""Answers to other cells, which have asked through the store what is seen here alone. A reading: it makes no packet.

Whoever asks is one of many: of each cell one question waits, the newest; they have their turns, so many a second at the most.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from agent import log
from agent.complaint import Complaints
from agent.errors import RAISED
from agent.insight.explain.told import AskedCell, KnownStep, encode_answer
from agent.pacing import Backoff
from agent.store.protocols import QuestionStore

REST: Final = 0.2  # seconds between two answers
AGAIN, LONGEST = 5.0, 60.0  # seconds until the store is heard again


class CellAnswers:
    """`known` is what is seen here of a question, and raises InvalidInput where it is none."""

    def __init__(
        self,
        store: QuestionStore,
        *,
        known: Callable[[AskedCell], Awaitable[Sequence[KnownStep]]],
        again: float = AGAIN,
    ) -> None:
        self._store = store
        self._again = again
        self._known = known
        self._waiting: dict[str, bytes] = {}
        self._asked = asyncio.Event()
        self._complaints = Complaints(log.get("explain"), failed="not_answered")

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._answer())

    async def _listen(self) -> None:
        backoff = Backoff(first=self._again, longest=LONGEST)
        while True:
            try:
                async for cell, data in self._store.questions():
                    backoff.reset()
                    self._complaints.over()
                    self._waiting[cell] = data
                    self._asked.set()
            except RAISED as error:
                self._complaints.about(error)
            await asyncio.sleep(backoff.next())

    async def _answer(self) -> None:
        while True:
            await self._asked.wait()
            while self._waiting:
                cell = next(iter(self._waiting))
                data = self._waiting.pop(cell)
                try:
                    question = AskedCell.decode(data)
                    await self._store.answer(cell, encode_answer(question, await self._known(question)))
                    self._complaints.over(key=cell)
                except RAISED as error:
                    self._complaints.about(error, key=cell, cell=cell)
                await asyncio.sleep(REST)
            self._asked.clear()
