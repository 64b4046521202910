"""Whether so many connections begin that their ends are not asked for: to tell of each change costs the kernel more than of a
beginning, and that is paid by whoever connects."""

from typing import Final

MANY: Final = 1_000  # in a second
WINDOW: Final = 0.1  # seconds over which they are counted
LASTS: Final = 2.0  # seconds of fewer than half as many, after which there are few again


class ConnectionRate:
    """Times are in seconds of one clock."""

    def __init__(self) -> None:
        self._count, self._since, self._until = 0, 0.0, 0.0
        self.is_high = False

    def add(self, count: int, *, now: float) -> None:
        """So many more have begun."""
        self._count += count
        took = now - self._since
        if took < WINDOW:
            return
        rate = self._count / took
        if rate > (MANY / 2 if self.is_high else MANY):
            self.is_high, self._until = True, now + LASTS
        elif now >= self._until:
            self.is_high = False
        self._count, self._since = 0, now
