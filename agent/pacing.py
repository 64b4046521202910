"""How long to wait: after an attempt that failed, and for an event that may never come."""

import asyncio


class Backoff:
    """Seconds between attempts that fail: `first`, doubled up to `longest`."""

    def __init__(self, *, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = self._seconds = first
        self._longest = longest

    def next(self) -> float:
        """Seconds to wait now."""
        current, self._seconds = self._seconds, min(self._seconds * 2, self._longest)
        return current

    def reset(self) -> None:
        """An attempt has succeeded."""
        self._seconds = self._first


async def wait_for_event(event: asyncio.Event, *, within: float | None) -> bool:
    """Wait until `event` is set, for `within` seconds at most (None: for ever); whether it is set.

    Not asyncio.wait_for, which can lose a cancellation that comes together with the event.
    """
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
