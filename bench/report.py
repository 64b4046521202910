"""A script's end: its series as an aligned table for people and as JSON for comparing one run with another."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from bench.figures import Series

RESULTS = Path(__file__).parent / "results"
HEAD = ("what", "setting", "n", "p50", "p90", "p99", "max", "medians of runs", "x floor", "bar", "")
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
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        lines = ["  ".join(_aligned(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
                 for row in rows]  # fmt: skip
        return "\n".join([self._title(), *(line.rstrip() for line in lines)])

    def write(self, folder: Path = RESULTS) -> Path:
        """NAME.json in `folder`; returns where."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self._json(), indent=1) + "\n")
        return path

    def _title(self) -> str:
        load = " to ".join(f"{each:.1f}" for each in self.load)
        return f"{self.name}: milliseconds on {machine()}; load average {load}"

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


def _aligned(cell: str, width: int, column: int) -> str:
    return f"{cell:>{width}}" if HEAD[column] in ("n", "p50", "p90", "p99", "max", "x floor") else f"{cell:<{width}}"


def machine() -> str:
    """In general terms: enough to compare with, not enough to recognise."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{os.cpu_count()} cores, {system}, kernel {kernel}, Python {platform.python_version()}"
