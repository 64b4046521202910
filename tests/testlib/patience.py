"""Waiting in tests: until something is so, or a test fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE = 20.0  # seconds; a busy machine is slow

Found = TypeVar("Found")


def eventually(true: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    """Wait until something is so; fails if it does not come."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not so after {seconds:g} s"
        time.sleep(0.01)


def becomes(wanted: Found, look: Callable[[], Found], *, seconds: float = PATIENCE) -> None:
    """Wait until what is seen is as it should be; fails with what is seen instead in the end."""
    until = time.monotonic() + seconds
    while (found := look()) != wanted and time.monotonic() < until:
        time.sleep(0.01)
    assert found == wanted, f"still {found!r} after {seconds:g} s, not {wanted!r}"


async def eventually_async(true: Callable[[], Awaitable[bool] | bool], *, seconds: float = PATIENCE) -> None:
    """The same beside other tasks; `true` may be a coroutine function."""
    until = time.monotonic() + seconds
    while True:
        found = true()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < until, f"not so after {seconds:g} s"
        await asyncio.sleep(0.01)
