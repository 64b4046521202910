"""Figures of things that were measured in turn, round by round, and how they stand to each other. Pure but for the file.

A ratio is the median of the rounds' own ratios: what the machine did in one round met both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

from bench.reports.figures import Verdict, percentile
from bench.reports.report import RESULTS, Json, aligned, machine, title

BESIDE = "x "  # a column of ratios is headed by what they are to


@dataclass(frozen=True, slots=True)
class Limit:
    """What a ratio must not be below, or above."""

    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"

    def holds(self, ratio: float) -> bool:
        """To the two digits that are shown."""
        shown = round(ratio, 2)
        return (self.least is None or shown >= self.least) and (self.most is None or shown <= self.most)


@dataclass(frozen=True, slots=True)
class Figure:
    """A value for each round. `beside` are the ratios to others, by their name, `bars` what is promised of these.

    `limit` is what is promised of the median itself.
    """

    what: str
    setting: str
    unit: str
    values: tuple[float, ...]
    beside: Mapping[str, float] = field(default_factory=dict)
    bars: Mapping[str, Limit] = field(default_factory=dict)
    limit: Limit | None = None

    @property
    def bar(self) -> str:
        """For people."""
        own = [] if self.limit is None else [f"{self.limit} {self.unit}"]
        return ", ".join([*own, *(f"{BESIDE}{name} {limit}" for name, limit in self.bars.items())])

    @property
    def verdict(self) -> Verdict:
        """Whether all bars are met."""
        judged = [limit.holds(self.beside[name]) for name, limit in self.bars.items()]
        if self.limit is not None:
            judged.append(self.limit.holds(median(self.values)))
        if not judged:
            return Verdict.NO_BAR
        return Verdict.MET if all(judged) else Verdict.MISSED


def ratio(values: tuple[float, ...], to: tuple[float, ...]) -> float:
    """Of two series of the same rounds."""
    return median(one / other for one, other in zip(values, to, strict=True))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The end of a script: a table on the screen, and JSON."""

    name: str
    figures: tuple[Figure, ...]
    started: datetime
    load: tuple[float, float]

    def table(self) -> str:
        """Numbers to the right."""
        names = list(dict.fromkeys(name for each in self.figures for name in each.beside))
        head = ("what", "setting", "n", "p10", "median", "p90", "unit", *(BESIDE + name for name in names), "bar", "")
        right = {"n", "p10", "median", "p90", *(BESIDE + name for name in names)}
        return "\n".join(
            [title(self.name, "", self.load), *aligned([head, *(_row(each, names) for each in self.figures)], right=right)]
        )

    def write(self, folder: Path = RESULTS) -> Path:
        """NAME.json in `folder`; returns where."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self._json(), indent=1) + "\n")
        return path

    def _json(self) -> Json:
        return {
            "name": self.name,
            "started": self.started.isoformat(timespec="seconds"),
            "machine": machine(),
            "load": list(self.load),
            "figures": [_json_of(each) for each in self.figures],
        }


def shown(value: float) -> str:
    """Three digits that matter, thousands apart."""
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2
    return f"{value:,.{digits}f}"


def _row(figure: Figure, names: list[str]) -> tuple[str, ...]:
    values = [shown(percentile(figure.values, percent)) for percent in (10, 50, 90)]
    ratios = [f"{figure.beside[name]:.2f}" if name in figure.beside else "" for name in names]
    count = str(len(figure.values))
    return (figure.what, figure.setting, count, *values, figure.unit, *ratios, figure.bar, figure.verdict.value)


def _json_of(figure: Figure) -> Json:
    return {
        "what": figure.what,
        "setting": figure.setting,
        "unit": figure.unit,
        "count": len(figure.values),
        **{f"p{percent}": round(percentile(figure.values, percent), 3) for percent in (10, 50, 90)},
        "beside": {name: round(value, 4) for name, value in figure.beside.items()},
        "bar": figure.bar,
        "verdict": figure.verdict.value,
    }
