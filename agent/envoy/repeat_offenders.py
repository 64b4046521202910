"""What root inside a container breaks again and again: mended a few times, then left alone for a while, each time for longer.

Whatever is broken, a listener closed or a socket put beside it, only the container's own calls suffer from it. To mend it for
ever would be work that one container can ask of its cell without end.
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from agent.pacing import Backoff

TIMES, WITHIN = 3, 300.0  # so often in so many seconds, and it is left alone
FIRST_PAUSE, LONGEST_PAUSE = 300.0, 4800.0  # doubled from one to the other
FORGOTTEN_AFTER = 3600.0  # of quiet

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Offender:
    """The times of its last few offences, and the end of its pause."""

    times: deque[float] = field(default_factory=partial(deque, maxlen=TIMES))
    pauses: Backoff = field(default_factory=partial(Backoff, first=FIRST_PAUSE, longest=LONGEST_PAUSE))
    paused_until: float = 0.0

    def add(self, now: float) -> None:
        self.times.append(now)
        if len(self.times) == TIMES and now - self.times[0] < WITHIN:
            self.times.clear()
            self.paused_until = now + self.pauses.next()

    def last(self) -> float:
        return max(self.paused_until, *self.times, 0.0)


class RepeatOffenders(Generic[Key]):
    """`clock` is in seconds and never jumps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._offenders: dict[Key, _Offender] = {}

    def add(self, key: Key) -> None:
        """Once more."""
        self._offenders.setdefault(key, _Offender()).add(self._clock())

    def paused(self) -> frozenset[Key]:
        """Those that are left alone now."""
        now = self._clock()
        return frozenset(key for key, each in self._offenders.items() if now < each.paused_until)

    def keep(self, keys: Collection[Key]) -> None:
        """Forget those that are not among `keys`, and those that have long been quiet."""
        now = self._clock()
        self._offenders = {
            key: each for key, each in self._offenders.items() if key in keys and now - each.last() < FORGOTTEN_AFTER
        }
