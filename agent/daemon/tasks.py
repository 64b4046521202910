"""Tasks that run as long as the agent does. A TaskGroup does not report one that returns, or that something inside has
cancelled: the agent would go on without it, unnoticed. And one that fails must not take all others with it: what a library
raises unexpectedly is reported, and the task is begun again.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from agent import log
from agent.errors import Bug
from agent.model.status import Part, Problem
from agent.pacing import Backoff

SHOWN = 15.0  # seconds that a task must have run for its last failure to be over: more than any of them pauses


class TaskFailures(Part):
    """The last failure of each task. `elapsed` is a clock in seconds that never jumps."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self.elapsed = elapsed
        self._last: dict[str, tuple[float, str]] = {}
        self._log = log.get("daemon")

    def add(self, name: str, error: Exception) -> None:
        """The task has failed now."""
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        what = f"{type(first).__name__}: {first}"
        if name not in self._last or self._last[name][1] != what:
            self._log.error("task_failed", task=name, what=what, exc_info=error)
        self._last[name] = (self.elapsed(), what)

    def problems(self) -> Iterator[Problem]:
        """One for each task that has failed lately."""
        now = self.elapsed()
        for name, (at, what) in sorted(self._last.items()):
            if now < at + SHOWN:
                hint = "please report this, with the agent's log"
                yield Problem("agent", f"the task '{name}' has failed, and was begun again: {what}", hint)


def lasting(
    tasks: asyncio.TaskGroup, work: Callable[[], Coroutine[Any, Any, None]], *, name: str, failures: TaskFailures
) -> asyncio.Task[None]:
    """Begin `work`, which ends only by being cancelled, and begin it again whenever it fails.

    If it returns, or is cancelled by itself, the whole agent ends, with a Bug.
    """
    return tasks.create_task(_kept_up(work, name=name, failures=failures), name=name)


async def _kept_up(work: Callable[[], Coroutine[Any, Any, None]], *, name: str, failures: TaskFailures) -> None:
    backoff = Backoff()
    while True:
        begun = failures.elapsed()
        try:
            await _watched(work(), name=name)
        except Bug:
            raise
        except Exception as error:
            failures.add(name, error)
        if failures.elapsed() - begun > SHOWN:
            backoff.reset()
        await asyncio.sleep(backoff.next())


async def _watched(work: Coroutine[Any, Any, None], *, name: str) -> None:
    try:
        await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Bug(f"the task '{name}' was cancelled by itself") from error
    raise Bug(f"the task '{name}' has ended by itself")
