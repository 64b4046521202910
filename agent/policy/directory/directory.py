"""The policy directory followed for ever: inotify says when to look, a look every few seconds finds what it did not say.

Events are hints, never facts: each only leads to a scan. What they add is knowing when a writer has finished, so that
half a file is never taken for a whole one, and what was touched while we read.
"""

import asyncio
import time
from collections.abc import Callable

from agent.policy.directory.events import DirectoryEvents
from agent.policy.directory.files import PolicyFiles

__all__ = ["PolicyFiles", "watch"]

PERIOD = 5.0  # seconds between looks without an event: for file systems without inotify
POLL = 1.0  # the same where there is no inotify at all, and while a copy could not be kept


async def watch(
    files: PolicyFiles, on_change: Callable[[], None], *, clock: Callable[[], float] = time.monotonic, period: float = PERIOD
) -> None:
    """Scan at once, then at every event, and every `period` seconds; call `on_change` after each change. Runs until cancelled.

    Whoever else scans `files` need not tell: what has changed since the last call of `on_change` is announced.
    """
    announced: tuple[object, object] = (files.policies(), files.problems())
    with DirectoryEvents(files.directory) as events:
        while True:
            files.note_watch(events.arm())
            closed, reread = events.take()
            files.scan(clock(), closed=closed, reread=reread, unsettled=events.drain)
            announced = _announce(files, on_change, announced)
            if copies := files.unsaved:
                files.note_saved(copies, await asyncio.to_thread(files.save, copies))  # fsync: takes its time
                announced = _announce(files, on_change, announced)
            wakeup = files.next_wakeup()
            limit = period if events.armed and not files.unsaved else min(period, POLL)
            await events.wait(limit if wakeup is None else max(0.0, min(limit, wakeup - clock())))


def _announce(files: PolicyFiles, on_change: Callable[[], None], before: tuple[object, object]) -> tuple[object, object]:
    now = (files.policies(), files.problems())
    if now[0] is not before[0] or now[1] is not before[1]:
        on_change()
    return now
