"""Measured times as values: percentiles of a series, the bar it is held against, and whether it was met. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from agent.errors import InvalidInput


class Verdict(Enum):
    """How a series stands to its bar."""

    MET = "met"
    MISSED = "missed"
    NO_BAR = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """What docs/performance.md promises, in milliseconds; None: nothing is promised of this percentile."""

    p50: float | None = None
    p99: float | None = None

    def __str__(self) -> str:
        parts = ((50, self.p50), (99, self.p99))
        return ", ".join(f"p{number} {value:g}" for number, value in parts if value is not None)


@dataclass(frozen=True, slots=True)
class Series:
    """One thing measured again and again: `runs` holds each run's times in milliseconds, `setting` what was around it."""

    what: str
    setting: str
    runs: tuple[tuple[float, ...], ...]
    bar: Bar = Bar()

    def percentile(self, percent: float) -> float:
        """Nearest rank, over all runs."""
        return percentile([value for run in self.runs for value in run], percent)

    @property
    def count(self) -> int:
        """How many times it was measured."""
        return sum(map(len, self.runs))

    @property
    def medians(self) -> tuple[float, ...]:
        """Each run's own: the closer they are, the more the whole can be trusted."""
        return tuple(median(run) for run in self.runs)

    @property
    def verdict(self) -> Verdict:
        """Over all runs."""
        held = [(self.percentile(50), self.bar.p50), (self.percentile(99), self.bar.p99)]
        judged = [value <= limit for value, limit in held if limit is not None]
        if not judged:
            return Verdict.NO_BAR
        return Verdict.MET if all(judged) else Verdict.MISSED


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that `percent` of them do not exceed. Raises InvalidInput for no values."""
    if not values:
        raise InvalidInput("nothing was measured", hint="ask for at least one round")
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
