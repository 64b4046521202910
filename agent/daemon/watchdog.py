"""Keepalives for systemd: an agent whose event loop no longer turns is ended and started anew (`WatchdogSec=` of its unit).

That it does what it should is for `status` to say; only a loop that is stuck can say nothing any more.
"""

import asyncio
import os

from agent.notify import notify

IN_EACH_PERIOD = 4  # of the time after which systemd gives it up
MICROSECONDS = 1e6


def period() -> float | None:
    """How long systemd waits for a keepalive, in seconds; None where it waits for none."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / MICROSECONDS if microseconds > 0 else None


async def run() -> None:
    """Ends only by cancellation."""
    seconds = period()
    while True:
        if seconds is not None:
            notify("WATCHDOG=1")
        await asyncio.sleep(3600.0 if seconds is None else seconds / IN_EACH_PERIOD)
