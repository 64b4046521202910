"""What another cell alone sees of a way, asked of it through the store: what listens there, its rules, its certificates.

Nothing stands while nobody asks. One question is under way at a time, and has an end: a cell that does not answer is named.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from agent.errors import RAISED, InvalidInput
from agent.insight.explain.told import LISTENER, AskedCell, KnownStep, decode_answer
from agent.insight.explain.way import AskedWay, WayStep
from agent.store.protocols import QuestionStore

PATIENCE: Final = 2.0  # seconds for all answers, and as many before that until others have theirs
LOOK: Final = 0.05  # seconds between looks for one
MOST: Final = 8  # cells that are asked
SENSELESS: Final = "its answer makes no sense"
BUSY: Final = "this cell asks other questions just now"

Answers: TypeAlias = Mapping[str, tuple[KnownStep, ...] | str]
"""By cell what it knows, or why that is not known."""


@dataclass(frozen=True, slots=True)
class Told:
    """What other cells have said, by the informant that knows it; which have said all; a step for each that has none."""

    steps: Mapping[str, tuple[WayStep, ...]] = field(default_factory=dict)
    answered: frozenset[str] = frozenset()
    failed: tuple[WayStep, ...] = ()


class OtherCells:
    """`store` is None on a cell that shares none."""

    def __init__(self, store: QuestionStore | None, *, cell: str, patience: float = PATIENCE) -> None:
        self._store = store
        self._cell = cell
        self._patience = patience
        self._turn = asyncio.Lock()

    async def told(self, way: AskedWay) -> Told:
        """By the cells where the way ends, those of the destination first. Raises nothing of etcd's."""
        ends = dict.fromkeys(each.cell for each in (*way.called, *way.callers) if each.cell != self._cell)
        if self._store is None or not ends:
            return Told()
        asked = tuple(ends)[:MOST]
        question = AskedCell(secrets.token_hex(8), str(way.source), str(way.to), way.service)
        found = await self._in_turn(self._store, asked, question)
        steps: dict[str, tuple[WayStep, ...]] = {}
        for cell, known in found.items():
            for each in known if isinstance(known, tuple) else ():
                said = replace(each.step, what=f"{each.step.what}, as {cell} says")
                steps[each.informant] = (*steps.get(each.informant, ()), said)
        failed = tuple(_failed(cell, known) for cell, known in found.items() if isinstance(known, str))
        called = Counter(each.cell for each in way.called)
        # one that says of fewer what listens than it runs has left some out: what is known of all of them is told besides
        answered = frozenset(cell for cell, known in found.items() if _listeners(known) >= called[cell])
        return Told(steps, answered, failed)

    async def _in_turn(self, store: QuestionStore, cells: Iterable[str], question: AskedCell) -> Answers:
        """A cell has one question to another at a time: the next would take its place."""
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError:
            return dict.fromkeys(cells, BUSY)
        try:
            return await self._ask(store, cells, question)
        finally:
            self._turn.release()

    async def _ask(self, store: QuestionStore, cells: Iterable[str], question: AskedCell) -> Answers:
        """As long as there is patience."""
        found: dict[str, tuple[KnownStep, ...] | str] = dict.fromkeys(cells, f"no answer within {self._patience:g} s")

        async def one(cell: str) -> None:
            try:
                await store.ask(cell, question.encode())
                known = None
                while known is None:
                    await asyncio.sleep(LOOK)
                    known = await _answer(store, cell, question)
                found[cell] = known
            except RAISED as error:
                found[cell] = SENSELESS if isinstance(error, InvalidInput) else error.what

        try:
            async with asyncio.timeout(self._patience), asyncio.TaskGroup() as group:
                for cell in cells:
                    group.create_task(one(cell))
        except TimeoutError:
            pass
        return found


async def _answer(store: QuestionStore, cell: str, question: AskedCell) -> tuple[KnownStep, ...] | None:
    """None as long as there is none."""
    data = await store.answer_of(cell)
    return None if data is None else decode_answer(data, question)


def _listeners(known: tuple[KnownStep, ...] | str) -> int:
    """How many are told of; fewer than any number where nothing is."""
    return sum(each.informant == LISTENER for each in known) if isinstance(known, tuple) else -1


def _failed(cell: str, why: str) -> WayStep:
    return WayStep(cell, None, f"what {cell} alone sees is not known: {why}", "ask there, and see 'cellnet cell list'")
