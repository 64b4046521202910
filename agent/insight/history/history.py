"""What the agent did and saw, kept over its restarts: `cellnet events`.

Whoever has something to tell hands it over and goes on: a task of its own writes what came within a second, in a thread. All of
it is bounded, and what is lost at a bound, or as the disk takes nothing, is counted and becomes an entry itself.
"""

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.insight.history.on_disk import Caller, HistoryArea, HistoryEntry, HistoryFile
from agent.model.status import Part, Problem
from agent.pacing import Backoff, wait_for_event
from agent.reader_threads import in_reader_thread
from agent.wording import printable

BATCH: Final = 1.0  # seconds: what comes meanwhile is one write
KEPT: Final = 1_000  # entries that wait for the disk
A_MINUTE: Final = 60  # entries of one area; a flood of one kind must not drive out all others
MINUTE: Final = 60.0
STOPPED: Final = "the agent stopped"
UNFINISHED: Final = "; the one before it did not stop in order, and what it saw in its last second may be missing"


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """Entries of the history since the agent's start: those that are `kept`, or wait for that, and those that were `lost`."""

    kept: int
    lost: int


@dataclass(frozen=True, slots=True)
class Found:
    """What the history holds of what was asked for, the oldest first. `damaged` lines among them cannot be read; there is
    `more` where older ones are left out."""

    entries: tuple[HistoryEntry, ...]
    damaged: int
    more: bool


class History(Part):
    """One per agent. `now` is UTC, `elapsed` in seconds and never jumps."""

    def __init__(
        self, file: HistoryFile, *, now: Callable[[], datetime], elapsed: Callable[[], float], batch: float = BATCH
    ) -> None:
        self._file = file
        self._now = now
        self._elapsed = elapsed
        self._batch = batch
        self._waiting: deque[HistoryEntry] = deque()
        self._disk = threading.Lock()
        self._one = asyncio.Lock()  # who reads waits here: a thread that waits for the disk is one that others lack
        self._wake = asyncio.Event()
        self._minute: tuple[float, Counter[HistoryArea]] = (elapsed(), Counter())
        self._unwritten: Counter[HistoryArea] = Counter()  # lost, and not an entry yet
        self._problem: OSError | None = None
        self._begun = False
        self._kept = self._lost = 0

    def add(self, area: HistoryArea, what: str, *, by: Caller | None = None) -> None:
        """One more. Takes no time."""
        began, seen = self._minute
        if not 0 <= self._elapsed() - began < MINUTE:
            seen = Counter[HistoryArea]()
            self._minute = (self._elapsed(), seen)
            self._tell_lost()
        seen[area] += 1
        if seen[area] > A_MINUTE or len(self._waiting) >= KEPT:
            self._lost += 1
            self._unwritten[area] += 1
            self._wake.set()
        else:
            self._put(area, printable(what), by=by)

    def problems(self) -> Iterator[Problem]:
        """Why nothing is kept."""
        if self._problem is not None:
            what = f"the history of events cannot be written: {self._problem.strerror}"
            hint = f"make room, or see what is at {self._file.newest}; until then {KEPT:,} are kept in memory"
            yield Problem("disk", what, hint)

    async def rows(self) -> Mapping[str, object]:
        """`history`."""
        return {"history": HistoryRow(self._kept, self._lost)}

    async def run(self) -> None:
        """Write. Runs until cancelled."""
        backoff = Backoff(first=self._batch, longest=10 * self._batch)
        while True:
            await wait_for_event(self._wake, within=MINUTE if self._unwritten else None)
            await asyncio.sleep(self._batch if self._problem is None else backoff.next())
            self._wake.clear()
            try:
                await asyncio.to_thread(self._write)
            except OSError as error:
                self._problem = error
                self._wake.set()
            else:
                self._problem = None
                backoff.reset()
                if self._elapsed() - self._minute[0] >= MINUTE:
                    self._tell_lost()

    async def begin(self, what: str) -> None:
        """The agent has started: the first entry, which says whether the last one stopped in order."""
        self._begun, last = True, None
        with contextlib.suppress(OSError):
            last = await asyncio.to_thread(self._file.last)
        unfinished = last is not None and last.what != STOPPED
        self.add(HistoryArea.AGENT, what + UNFINISHED * unfinished)

    def end(self) -> None:
        """The agent stops: what waits is written now."""
        if not self._begun:
            return
        self._put(HistoryArea.AGENT, STOPPED)
        with contextlib.suppress(OSError):
            self._write()

    @property
    def lost(self) -> int:
        """How many were, since the agent's start."""
        return self._lost

    async def since(self, moment: datetime | None, *, area: HistoryArea | None, most: int) -> Found:
        """The newest `most` of those that are not older than `moment`, what still waits included. Raises OSError."""
        async with self._one:
            return await in_reader_thread(lambda: self._find(moment, area, most))

    def _find(self, moment: datetime | None, area: HistoryArea | None, most: int) -> Found:
        found, damaged = list[HistoryEntry](), 0
        with self._disk:
            for each in self._backwards(area):
                if each is None:
                    damaged += 1
                elif (moment is None or each.at >= moment) and area in (None, each.area):
                    if len(found) == most:
                        return Found(tuple(reversed(found)), damaged, more=True)
                    found.append(each)
        return Found(tuple(reversed(found)), damaged, more=False)

    def _backwards(self, area: HistoryArea | None) -> Iterator[HistoryEntry | None]:
        """The newest first, those that wait included; None for a damaged line. Of other areas not all."""
        yield from reversed(self._all_waiting())
        wanted = b"" if area is None else f'"{area}"'.encode()
        for line in self._file.lines():
            if wanted in line:
                try:
                    yield HistoryEntry.parse(line)
                except (ValueError, RecursionError):
                    yield None

    def _write(self) -> None:
        """What waits, in whatever thread; what comes meanwhile waits on."""
        with self._disk:
            batch = self._all_waiting()
            if batch:
                self._file.append(batch)
            for _each in batch:
                self._waiting.popleft()

    def _all_waiting(self) -> list[HistoryEntry]:
        """In whatever thread: what is added meanwhile must not end the reading."""
        return [self._waiting[number] for number in range(len(self._waiting))]

    def _put(self, area: HistoryArea, what: str, *, by: Caller | None = None) -> None:
        self._waiting.append(HistoryEntry(self._now().replace(microsecond=0), area, what, by))
        self._kept += 1
        self._wake.set()

    def _tell_lost(self) -> None:
        """Once a minute, and once there is room."""
        if len(self._waiting) >= KEPT:
            return
        for area, count in self._unwritten.items():
            words = "one more event came than is kept" if count == 1 else f"{count} more events came than are kept"
            self._put(area, f"{words} in one minute or while the disk took none")
        self._unwritten.clear()
