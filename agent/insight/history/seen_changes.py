"""What changes while the agent runs, seen by comparing it with how it was at the last look, told to the history."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from agent.insight.history.history import History
from agent.insight.history.on_disk import HistoryArea
from agent.insight.history.seen_policies import SeenPolicies
from agent.model.cell import Cell
from agent.model.status import Area, Problem
from agent.pacing import wait_for_event
from agent.store.protocols import CellStore

APART: Final = 1.0  # seconds at least between two looks
LOOK: Final = 10.0  # seconds until the next one, if nothing changes
NUMBERS: Final = re.compile(r"\d+")
Standing: TypeAlias = Mapping[tuple[Area, str], Problem]


class SeenChanges:
    """One per agent. `problems` are those that `status` has; `kick` says that there may be something new."""

    def __init__(
        self,
        history: History,
        *,
        cell: str,
        cells: CellStore,
        problems: Callable[[], Iterable[Problem]],
        policies: SeenPolicies,
    ) -> None:
        self._history = history
        self._cell = cell
        self._store = cells
        self._problems = problems
        self._policies = policies
        self._standing: Standing = {}
        self._cells: tuple[Cell, ...] | None = None
        self._kicked = asyncio.Event()

    def kick(self) -> None:
        """Look soon."""
        self._kicked.set()

    async def run(self) -> None:
        """Look again and again. Runs until cancelled."""
        while True:
            self._kicked.clear()
            await self.look()
            await asyncio.sleep(APART)
            await wait_for_event(self._kicked, within=LOOK)

    async def look(self) -> None:
        """Compare."""
        self._compare_problems()
        await self._compare_cells()
        await self._policies.look()

    def _compare_problems(self) -> None:
        # numbers in them may change from one look to the next
        now = {(each.area, NUMBERS.sub("#", each.what)): each for each in self._problems()}
        before, self._standing = self._standing, now
        for key, each in now.items():
            if key not in before:
                self._history.add(HistoryArea.PROBLEMS, _words(each))
        for key, each in before.items():
            if key not in now:
                self._history.add(HistoryArea.PROBLEMS, f"over, {_words(each)}")

    async def _compare_cells(self) -> None:
        cells = await self._store.cells()
        if cells is self._cells:
            return
        known, self._cells = self._cells, cells
        others = {each.record.name: each for each in cells if each.record.name != self._cell}
        before = {each.record.name: each for each in known or () if each.record.name != self._cell}
        for name, each in others.items():
            old = before.get(name)
            where = f"{name} ({each.record.underlay}, {each.record.subnet})"
            if old is None and known is not None:
                self._history.add(HistoryArea.CELLS, f"cell {where} is new")
            elif old is not None and (old.alive_since is None) != (each.alive_since is None):
                now = "is out of touch" if each.alive_since is None else "is back"
                self._history.add(HistoryArea.CELLS, f"cell {where} {now}")
        for name in before.keys() - others.keys():
            self._history.add(HistoryArea.CELLS, f"cell {name} has been removed")


def _words(problem: Problem) -> str:
    """Without the lines that show its place."""
    return f"{problem.area}: {problem.what.splitlines()[0]}"
