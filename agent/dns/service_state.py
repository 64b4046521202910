"""Whether an instance serves, and when to look next, as a function of what looks have found. Pure.

An app that has just been attached is looked at every 20 ms, one that takes longer to start less and less often, and one that
serves once a second. One that stops serving stays what it was for three seconds: it may only be restarting.
"""

from dataclasses import dataclass, replace
from typing import Self

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0  # seconds between looks
PATIENCE = 8  # the pause is that part of the time that it has not been served
MISSING_PAUSE = 0.25
GRACE = 3.0  # seconds without being served until it leaves the answers


@dataclass(frozen=True, slots=True)
class Serving:
    """`since` is when the waiting for it began; `missed` when it was first found not to be served though it is `ready`, None
    while it is; `due` is when to look next. Times are seconds of a clock that never jumps.
    """

    since: float
    due: float
    ready: bool = False
    missed: float | None = None

    @classmethod
    def begun(cls, now: float) -> Self:
        """Of an instance that is there from now on."""
        return cls(since=now, due=now)

    def after(self, found: bool, *, now: float) -> Self:
        """After a look."""
        if found:
            return replace(self, ready=True, missed=None, due=now + LONGEST_PAUSE)
        if not self.ready:
            pause = min(max((now - self.since) / PATIENCE, FIRST_PAUSE), LONGEST_PAUSE)
            return replace(self, due=now + pause)
        missed = now if self.missed is None else self.missed
        if now < missed + GRACE:  # as it is computed below: rounded otherwise, a look would be due at once
            return replace(self, missed=missed, due=max(min(now + MISSING_PAUSE, missed + GRACE), now + FIRST_PAUSE))
        return type(self)(since=now, due=now + FIRST_PAUSE)

    def unseen(self, *, now: float) -> Self:
        """After a look that came to nothing: it stays what it was."""
        return replace(self, due=now + LONGEST_PAUSE)
