"""What runs as long as the agent does must not end without a word."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agent.daemon import tasks as tasks_
from agent.daemon.tasks import SHOWN, TaskFailures, lasting
from agent.errors import Bug, HostRefused
from agent.pacing import Backoff


async def for_ever() -> None:
    await asyncio.sleep(3600)


async def at_once() -> None:
    return


async def cancelled_inside() -> None:
    raise asyncio.CancelledError


class Time:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def ending(work: Callable[[], Coroutine[Any, Any, None]]) -> BaseException:
    """What the agent ends with, where one of its two tasks is `work`."""
    try:
        async with asyncio.TaskGroup() as tasks:
            lasting(tasks, for_ever, name="one", failures=TaskFailures(Time()))
            lasting(tasks, work, name="two", failures=TaskFailures(Time()))
    except BaseExceptionGroup as group:
        (found,) = group.exceptions
        return found
    raise AssertionError("it goes on")


async def test_a_task_that_returns_ends_the_agent_with_its_name() -> None:
    bug = await ending(at_once)
    assert isinstance(bug, Bug)
    assert "'two' has ended by itself" in bug.what


async def test_a_task_that_cancels_itself_ends_the_agent() -> None:
    assert isinstance(await ending(cancelled_inside), Bug)


async def test_a_task_that_the_agent_cancels_is_no_failure() -> None:
    async with asyncio.TaskGroup() as tasks:
        one = lasting(tasks, for_ever, name="one", failures=TaskFailures(Time()))
        await asyncio.sleep(0)
        one.cancel()
    assert one.cancelled()


ERRORS = [OSError("no room"), KeyError("ifname"), HostRefused("no room"), ExceptionGroup("in a group", [ValueError("inside")])]


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
async def test_a_task_that_fails_is_reported_and_begun_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_, "Backoff", lambda: Backoff(first=0.0))
    clock, fine, times = Time(), asyncio.Event(), 0

    async def work() -> None:
        nonlocal times
        times += 1
        if times < 4:
            raise error
        fine.set()
        await for_ever()

    failures = TaskFailures(clock)
    async with asyncio.TaskGroup() as tasks:
        running = lasting(tasks, work, name="two", failures=failures)
        await fine.wait()
        (problem,) = failures.problems()
        assert "'two' has failed" in problem.what
        assert (str(error) if not isinstance(error, ExceptionGroup) else "ValueError: inside") in problem.what
        clock.now += SHOWN
        assert not list(failures.problems()), "it has run well for long enough"
        running.cancel()
