"""Another program that also wants to be first: our jump is put back, but three times in a row is an alarm, not a war."""

from collections.abc import Mapping
from dataclasses import replace

from agent.model.status import Part, Problem
from dataplane.tables import ChainKey, Tables

TIMES = 3
ROW_SECONDS = 60.0  # displaced again within this time of the last repair is "in a row"
ALARM_SECONDS = 60.0  # after the alarm, how long we wait before we try once more


CONTESTED = Problem(
    "firewall",
    "another program keeps putting a rule that can accept before our jump: what it accepts escapes the policies",
    "iptables -S FORWARD and -S INPUT show it; have that program insert behind the jump to CELLNET-FORWARD",
)


class ContestedJumps(Part):
    """Counts the repairs of jumps. Times are seconds of a clock that never jumps."""

    def __init__(self) -> None:
        self._times = 0
        self._last = 0.0
        self.alarm = False

    def problems(self) -> tuple[Problem, ...]:
        """That another program keeps moving our jumps, so that they are not put back at once any more."""
        return (CONTESTED,) if self.alarm else ()

    def respected(self, tables: Tables, actual: Tables, *, now: float) -> Tables:
        """`tables`, with the jumps that there are where they are left as they are this time."""
        return replace(tables, jumps=actual.jumps) if self.concedes(actual.jumps, wanted=tables.jumps, now=now) else tables

    def concedes(
        self, actual: Mapping[ChainKey, tuple[int, ...]], *, wanted: Mapping[ChainKey, tuple[int, ...]], now: float
    ) -> bool:
        """Whether to leave the jumps as they are this time. A jump that is missing altogether is always put back."""
        displaced = any(places != wanted.get(key) for key, places in actual.items())
        missing = any(key not in actual for key in wanted)
        if not displaced:
            if now - self._last > ROW_SECONDS:
                self._times, self.alarm = 0, False
            return False
        if missing:
            return False
        if self.alarm and now - self._last < ALARM_SECONDS:
            return True
        self._times = self._times + 1 if now - self._last <= ROW_SECONDS or self.alarm else 1
        self._last = now
        self.alarm = self._times > TIMES
        return self.alarm
