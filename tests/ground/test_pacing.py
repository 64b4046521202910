"""Waiting: pauses that double, and events with a limit."""

import asyncio

import pytest

from agent.pacing import Backoff, wait_for_event


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(first=0.1, longest=0.5)
    assert [backoff.next() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    backoff.reset()
    assert backoff.next() == 0.1


async def test_an_event_that_is_set_ends_the_wait() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await wait_for_event(event, within=60)


async def test_an_event_that_is_not_set_is_waited_for_no_longer_than_the_limit() -> None:
    assert not await wait_for_event(asyncio.Event(), within=0.01)


async def test_a_cancellation_together_with_the_event_is_not_lost() -> None:
    event = asyncio.Event()
    waiting = asyncio.get_running_loop().create_task(wait_for_event(event, within=60))
    await asyncio.sleep(0)
    event.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
