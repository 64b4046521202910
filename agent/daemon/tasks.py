"""Tasks that run as long as the agent does. A TaskGroup says nothing of one that returns, or that something inside has
cancelled: the agent would go on without it, and nobody would know.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from agent.errors import Bug


def lasting(tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    """Begin `work`, which ends only by being cancelled. If it ends otherwise, the whole agent does, with a Bug."""
    return tasks.create_task(_watched(work, name=name), name=name)


async def _watched(work: Coroutine[Any, Any, None], *, name: str) -> None:
    try:
        await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Bug(f"the task '{name}' was cancelled by itself") from error
    raise Bug(f"the task '{name}' has ended by itself")
