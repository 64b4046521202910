"""The time of day, which may be set at any moment: spans are counted by a clock that never jumps, and not by it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


def since_boot() -> float:
    """Seconds, those of a suspended machine included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` is the time of day (UTC), `elapsed` is in seconds and never jumps."""

    now: Callable[[], datetime] = utc_now
    elapsed: Callable[[], float] = since_boot

    def seconds(self) -> float:
        """Since 1970."""
        return self.now().timestamp()

    def called(self, moment: float) -> datetime:
        """What the clock, as it is set now, calls a moment of `elapsed`; to the second."""
        return (self.now() - timedelta(seconds=self.elapsed() - moment)).replace(microsecond=0)

    def bounds(self) -> tuple[Callable[[], float], Callable[[], float]]:
        """The earliest and the latest that it may be, in seconds since 1970: the clock, and what it would be if it had not been
        set since this call. What must rest for a week is stamped with the one and judged by the other, so no jump shortens it.
        """
        began, at = self.elapsed(), self.seconds()

        def steady() -> float:
            return at + self.elapsed() - began

        return lambda: min(steady(), self.seconds()), lambda: max(steady(), self.seconds())
