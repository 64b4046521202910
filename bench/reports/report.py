"""A script's end: its series as an aligned table for people and as JSON for comparing one run with another."""

import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from bench.reports.figures import Series

RESULTS = Path(__file__).parents[1] / "results"
HEAD = ("what", "setting", "n", "p50", "p90", "p99", "max", "medians of runs", "x floor", "bar", "")
RIGHT = frozenset({"n", "p50", "p90", "p99", "max", "x floor"})
Json: TypeAlias = "str | float | Sequence[Json] | Mapping[str, Json]"


@dataclass(frozen=True, slots=True)
class Report:
    """`floor`: the series of the kernel tool run by hand, by setting, which the others' medians are divided by."""

    name: str
    series: tuple[Series, ...]
    floor: Mapping[str, Series]
    started: datetime
    load: tuple[float, float]

    def ratio(self, series: Series) -> float | None:
        """Its median in units of the floor's; noise of the machine mostly cancels out."""
        floor = self.floor.get(series.setting)
        return None if floor is None else series.percentile(50) / floor.percentile(50)

    def table(self) -> str:
        """Milliseconds; columns aligned, numbers to the right."""
        rows = [HEAD, *(self._row(each) for each in (*self.floor.values(), *self.series))]
        return "\n".join([title(self.name, "milliseconds ", self.load), *aligned(rows, right=RIGHT)])

    def write(self, folder: Path = RESULTS) -> Path:
        """NAME.json in `folder`; returns where."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self._json(), indent=1) + "\n")
        return path

    def _row(self, series: Series) -> tuple[str, ...]:
        figures = [f"{series.percentile(percent):.1f}" for percent in (50, 90, 99, 100)]
        ratio = self.ratio(series)
        medians = " ".join(f"{each:.1f}" for each in series.medians)
        times = "" if ratio is None else f"{ratio:.1f}"
        return (series.what, series.setting, str(series.count), *figures, medians, times, str(series.bar), series.verdict.value)

    def _json(self) -> Json:
        return {
            "name": self.name,
            "started": self.started.isoformat(timespec="seconds"),
            "machine": machine(),
            "load": list(self.load),
            "unit": "milliseconds",
            "series": [self._json_of(each) for each in (*self.floor.values(), *self.series)],
        }

    def _json_of(self, series: Series) -> Json:
        return {
            "what": series.what,
            "setting": series.setting,
            "count": series.count,
            **{f"p{percent}": round(series.percentile(percent), 3) for percent in (50, 90, 99)},
            "max": round(series.percentile(100), 3),
            "medians": [round(each, 3) for each in series.medians],
            "times_floor": round(self.ratio(series) or 0.0, 3),
            "bar": str(series.bar),
            "verdict": series.verdict.value,
        }


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[str]) -> Iterator[str]:
    """Lines of columns; the first row is their heads, and `right` those whose cells stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(rows[0], row, widths, strict=True)
        yield "  ".join(f"{cell:>{width}}" if head in right else f"{cell:<{width}}" for head, cell, width in cells).rstrip()


def title(name: str, unit: str, load: tuple[float, float]) -> str:
    """What was measured where, and what else the machine did meanwhile."""
    return f"{name}: {unit}on {machine()}; load average {' to '.join(f'{each:.1f}' for each in load)}"


def machine() -> str:
    """In general terms: enough to compare with, not enough to recognise."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{os.cpu_count()} cores, {system}, kernel {kernel}, Python {platform.python_version()}"
