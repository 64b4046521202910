"""Policies that end by themselves: which of those written hold now.

Once ended a policy stays ended, whatever becomes of the clock: the latest time that was ever seen is kept on disk, and no time
before it counts. While the clock is behind it by more than clocks are corrected by, nobody knows how late it is: what would end
allows nothing.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from agent.model.policy import Policy
from agent.model.status import Part, Problem
from agent.policy.difference import difference
from agent.policy.language.terms import written_until
from host.durable import PUBLIC, Write, make_folder, replace

SLACK = 60.0  # seconds that a clock may go back by
KEPT_EVERY = 60.0  # seconds
LOOK = 1.0  # seconds: the clock may be set at any moment
LAST = datetime.max.replace(tzinfo=UTC).timestamp()  # a later time cannot be written


class Endings(Part):
    """One per agent. `now` is in seconds since 1970; `file` has the latest that was seen."""

    def __init__(self, file: Path, *, now: Callable[[], float]) -> None:
        self._file = file
        self._now = now
        self._policies: tuple[Policy, ...] = ()
        self._ends: Counter[float] = Counter()
        self._holding: tuple[Policy, ...] = ()
        self._behind, self._next = False, math.inf
        self._changes = 0  # times that what holds has changed though no policy had
        self._followed = asyncio.Event()
        self._unread = self._unkept = ""
        self._latest = self._kept = self._read()

    def holding(self, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        """Those of `policies` that hold now; the same object as long as that is the same."""
        if policies is not self._policies:
            self._follow(policies)
            self._judge()
        elif self._ends and (self._is_behind() != self._behind or self._time() >= self._next):
            self._judge()
            self._changes += 1
        return self._holding

    def holds(self, policy: Policy) -> bool:
        """Whether one that is written allows anything now."""
        return policy.until is None or (not self._is_behind() and self._time() < policy.until.timestamp())

    def problems(self) -> Iterator[Problem]:
        """A clock that has been set back, and a time that cannot be kept."""
        if self._unread:
            what = f"the latest time that was seen cannot be read from {self._file}: {self._unread}"
            yield Problem("policies", what, "see that the clock is right, then remove the file and start the agent anew")
        if self._unkept:
            hint = "see that it can be written: after a restart with a wrong clock what has ended might hold again"
            yield Problem("policies", f"the latest time that was seen cannot be kept in {self._file}: {self._unkept}", hint)
        if self._ends and self._is_behind():
            seen = written_until(datetime.fromtimestamp(int(self._latest), UTC))
            what = f"the clock is behind {seen}, which it has shown: policies with `until` allow nothing"
            yield Problem(
                "policies", what, f"set the clock; if that time was wrong, remove {self._file} and start the agent anew"
            )

    async def run(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` when a policy ends, or holds again since the clock is right. Runs until cancelled."""
        seen = self._changes
        while True:
            await self._wait()
            self.holding(self._policies)
            is_changed, seen = seen != self._changes, self._changes
            if is_changed:
                on_change()
            if is_changed or (self._ends and self._time() >= self._kept + KEPT_EVERY):
                await asyncio.to_thread(self._keep)

    async def _wait(self) -> None:
        """Until something may have ended: for ever where nothing does."""
        self._followed.clear()
        pause = min(LOOK, max(0.001, self._next - self._now())) if self._ends else None
        try:
            async with asyncio.timeout(pause):
                await self._followed.wait()
        except TimeoutError:
            return

    def _read(self) -> float:
        try:
            found = float(self._file.read_bytes())
            if not 0 <= found <= LAST:  # what is no number neither
                raise ValueError(f"{found:g} is no time")
            return found
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError) as error:
            self._unread = str(error)
            return 0.0

    def _keep(self) -> None:
        """Have the latest time survive a restart."""
        latest = self._latest
        try:
            make_folder(self._file.parent, mode=0o700)
            replace(Write(self._file, f"{math.ceil(latest)}\n".encode(), PUBLIC))
        except OSError as error:
            self._unkept = error.strerror or str(error)
            return
        self._kept, self._unkept = latest, ""

    def _follow(self, policies: tuple[Policy, ...]) -> None:
        change = difference(self._policies, policies)
        self._ends.subtract(each.until.timestamp() for each in change.removed if each.until is not None)
        self._ends.update(each.until.timestamp() for each in change.added if each.until is not None)
        self._ends = +self._ends
        self._policies = policies
        self._followed.set()

    def _judge(self) -> None:
        """Say anew what holds, and until when that is so."""
        time, self._behind = self._time(), self._is_behind()
        self._next = min((end for end in self._ends if end > time), default=math.inf)
        self._holding = tuple(filter(self.holds, self._policies)) if self._ends else self._policies

    def _time(self) -> float:
        """The latest time seen, this moment's included."""
        self._latest = max(self._latest, self._now())
        return self._latest

    def _is_behind(self) -> bool:
        return self._now() < self._latest - SLACK
