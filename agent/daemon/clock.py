"""The time of day, which somebody may set at any moment: spans are counted by a clock that never jumps, and not by it."""

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
        """What the clock, as it is set now, calls a moment of `elapsed`."""
        return self.now() - timedelta(seconds=self.elapsed() - moment)

    def steady(self) -> Callable[[], float]:
        """Seconds since 1970 that go on evenly from here: a rest of a week must not end because somebody set the clock."""
        began, at = self.elapsed(), self.seconds()
        return lambda: at + self.elapsed() - began
