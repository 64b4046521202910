"""What runs as long as the agent does must not end without a word."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from agent.daemon.tasks import lasting
from agent.errors import Bug


async def for_ever() -> None:
    await asyncio.sleep(3600)


async def at_once() -> None:
    return


async def cancelled_inside() -> None:
    raise asyncio.CancelledError


async def ending(work: Coroutine[Any, Any, None]) -> BaseException:
    """What the agent ends with, where one of its two tasks is `work`."""
    try:
        async with asyncio.TaskGroup() as tasks:
            lasting(tasks, for_ever(), name="one")
            lasting(tasks, work, name="two")
    except BaseExceptionGroup as group:
        (found,) = group.exceptions
        return found
    raise AssertionError("it goes on")


async def test_who_returns_ends_the_agent_with_its_name() -> None:
    bug = await ending(at_once())
    assert isinstance(bug, Bug)
    assert "'two' has ended by itself" in bug.what


async def test_who_is_cancelled_by_something_of_its_own_ends_the_agent() -> None:
    assert isinstance(await ending(cancelled_inside()), Bug)


async def test_who_is_cancelled_by_the_agent_ends_in_peace() -> None:
    async with asyncio.TaskGroup() as tasks:
        one = lasting(tasks, for_ever(), name="one")
        await asyncio.sleep(0)
        one.cancel()
    assert one.cancelled()


async def test_what_goes_wrong_is_told_as_it_is() -> None:
    async def fails() -> None:
        raise OSError("no room")

    assert isinstance(await ending(fails()), OSError)
