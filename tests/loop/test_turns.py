"""Kicks become turns: none is lost, many are one, and no waiter gets the report of a turn that began before it asked."""

import asyncio

from agent.loop.reports import TurnReport
from agent.loop.turns import Turns
from agent.pacing import Backoff


async def test_many_kicks_are_one_turn() -> None:
    turns = Turns()
    for _ in range(10):
        turns.kick()
    await turns.begin(within=1)
    begun = asyncio.ensure_future(turns.begin(within=60))
    await asyncio.sleep(0.01)
    assert not begun.done()
    begun.cancel()


async def test_a_kick_during_a_turn_is_the_next_turn() -> None:
    turns = Turns()
    turns.kick()
    await turns.begin(within=1)
    turns.kick()
    async with asyncio.timeout(5):
        await turns.begin(within=60)


async def test_a_waiter_that_comes_during_a_turn_gets_the_next_one() -> None:
    turns = Turns()
    turns.kick()
    first = await turns.begin(within=1)
    asked = asyncio.ensure_future(turns.next())
    await asyncio.sleep(0)
    first.end(TurnReport(changes=1))
    await asyncio.sleep(0)
    assert not asked.done()
    (await turns.begin(within=1)).end(TurnReport(changes=2))
    assert (await asked).changes == 2


async def test_without_a_kick_a_turn_begins_by_itself() -> None:
    async with asyncio.timeout(5):
        await Turns().begin(within=0.01)


async def test_cancelled_waiters_are_skipped() -> None:
    turns = Turns()
    asked = asyncio.ensure_future(turns.next())
    await asyncio.sleep(0)
    waiting = await turns.begin(within=1)
    asked.cancel()
    await asyncio.sleep(0)
    waiting.end(TurnReport())
    assert asked.cancelled()


def test_the_backoff_grows_to_a_limit_and_starts_again() -> None:
    backoff = Backoff()
    waits = [backoff.next() for _ in range(10)]
    assert waits == sorted(waits)
    assert waits[-1] == 5.0
    backoff.reset()
    assert backoff.next() == waits[0]
