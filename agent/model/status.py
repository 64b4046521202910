"""What a part of the agent reports about itself: the one shape behind `GET /v1/status`.

agent/daemon/build.py has the parts in a list, and `status` walks it. So a new fact is a line in the part
that knows it, and a new part is its own folder and a line there.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from agent.complaint import Complaint

Area = Literal[
    "kernel", "disk", "store", "overlay", "cell", "firewall", "envoy", "dns", "policies", "tags", "identity", "config", "lock",
    "agent",
]  # fmt: skip
"""Where a problem is, the gravest first."""
AREAS: tuple[Area, ...] = get_args(Area)
EVENTS_KEPT = 10


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an operator should mend."""

    area: Area
    what: str
    hint: str = ""


class Part:
    """A part of the agent. Both methods read what is known already: they change nothing, and raise nothing."""

    def problems(self) -> Iterable[Problem]:
        """What an operator should mend now."""
        return ()

    async def rows(self) -> Mapping[str, object]:
        """Fields of the status by name: dataclasses, and whatever else pydantic writes as JSON. Times are UTC, in seconds."""
        return {}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, and when (UTC)."""

    at: datetime
    what: str


class Events:
    """How many there have been since the agent's start, and the last few of them, the newest first."""

    def __init__(self) -> None:
        self.count = 0
        self._last: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._also: Callable[[str], None] | None = None

    def follow(self, also: Callable[[str], None]) -> None:
        """Have each from now on told to another part, too."""
        self._also = also

    @property
    def last(self) -> tuple[Event, ...]:
        """For a row."""
        return tuple(self._last)

    def add(self, at: datetime, what: str) -> None:
        """One more."""
        self.count += 1
        self._last.appendleft(Event(at.replace(microsecond=0), what))
        if self._also is not None:
            self._also(what)


def moment(seconds: float | None) -> datetime | None:
    """A time since 1970 as a row has it: UTC, to the second."""
    return None if seconds is None else datetime.fromtimestamp(int(seconds), UTC)


def as_problems(area: Area, complaint: Complaint | None) -> tuple[Problem, ...]:
    """An error that a part has kept, if there is one."""
    return () if complaint is None else (Problem(area, complaint.what, complaint.hint),)


def problems_of(parts: Iterable[Part]) -> tuple[Problem, ...]:
    """Those of all `parts`, the gravest area first; what two of them report in the same words only once."""
    return in_order(each for part in parts for each in part.problems())


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """As `problems_of`, where they have been asked for one by one."""
    unique: dict[str, Problem] = {}
    for each in sorted(problems, key=lambda each: AREAS.index(each.area)):
        unique.setdefault(each.what, each)
    return tuple(unique.values())
