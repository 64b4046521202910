"""What all scripts share: options, rounds within runs, and the end (table, JSON)."""

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from agent.errors import RAISED
from bench.reports import report
from bench.reports.comparison import Comparison, Figure
from bench.reports.figures import Series
from dataplane.firewall.backends.backends import Backend

PAUSE = (0.05, 0.1)  # seconds before a measurement: the cell is at rest, and nothing keeps step with the agent's own clocks
Command = TypeVar("Command", bound=Callable[..., None])


def options(*, rounds: int, runs: int = 3) -> Callable[[Command], Command]:
    """`--rounds`, `--runs` and `--results`."""

    def add(command: Command) -> Command:
        folder = click.Path(path_type=Path, file_okay=False)
        for option in (
            click.option("--rounds", default=rounds, show_default=True, type=click.IntRange(1), help="Rounds of each run."),
            click.option("--runs", default=runs, show_default=True, type=click.IntRange(1), help="All of it again."),
            click.option("--results", default=report.RESULTS, type=folder, help="Where the JSON goes."),
        ):
            command = option(command)
        return command

    return add


def backends() -> Callable[[Command], Command]:
    """`--backend`: scripts open a cell for each."""
    both = tuple(each.value for each in Backend)
    return click.option(
        "--backend", "backends", default=both, show_default=True, multiple=True, type=click.Choice(both),
        help="How rules are written; may be repeated.",
    )  # fmt: skip


def looks() -> Callable[[Command], Command]:
    """`--looks`: see `scene.opened`."""
    return click.option(
        "--looks", default=1.0, show_default=True, type=click.FloatRange(0),
        help="Seconds between changes of another program that the agent has to look at; 0: none.",
    )  # fmt: skip


class Stopwatch:
    """Collects times by name, run by run."""

    def __init__(self) -> None:
        self._times: dict[str, list[list[float]]] = {}
        self._run = -1

    def next_run(self) -> None:
        """Later times belong to another run."""
        self._run += 1

    def add(self, what: str, milliseconds: float) -> None:
        """One time."""
        runs = self._times.setdefault(what, [])
        while len(runs) <= self._run:
            runs.append([])
        runs[self._run].append(milliseconds)

    def of(self, what: str) -> tuple[tuple[float, ...], ...]:
        """The runs of one name."""
        return tuple(tuple(run) for run in self._times[what])

    def names(self) -> tuple[str, ...]:
        """In the order of their first time."""
        return tuple(self._times)


def pause() -> None:
    """Before each measurement."""
    time.sleep(random.uniform(*PAUSE))


def repeat(measure: Callable[[Stopwatch], None], *, rounds: int, runs: int) -> Stopwatch:
    """`measure` one round after the other, with a pause before each."""
    watch = Stopwatch()
    for _ in range(runs):
        watch.next_run()
        for _ in range(rounds):
            pause()
            measure(watch)
    return watch


def main(name: str, measured: Callable[[], tuple[tuple[Series, ...], Mapping[str, Series]]], *, results: Path) -> None:
    """Measure times, print, write; an error in one line."""
    with _ending() as begun:
        series, floor = measured()
        _out(report.Report(name, series, floor, begun.at, begun.load), results)


def compared(name: str, measured: Callable[[], tuple[Figure, ...]], *, results: Path) -> None:
    """The same with figures that stand beside each other."""
    with _ending() as begun:
        figures = measured()
        _out(Comparison(name, figures, begun.at, begun.load), results)


@dataclass(frozen=True, slots=True)
class _Begun:
    at: datetime
    before: float

    @property
    def load(self) -> tuple[float, float]:
        return self.before, os.getloadavg()[0]


@contextlib.contextmanager
def _ending() -> Iterator[_Begun]:
    if os.geteuid():
        sys.exit("error: measuring needs root; hint: sudo make bench")
    try:
        yield _Begun(datetime.now(UTC), os.getloadavg()[0])
    except RAISED as error:
        sys.exit(f"error: {error.what}; hint: {error.hint}")


def _out(made: report.Report | Comparison, results: Path) -> None:
    click.echo(made.table())
    click.echo(f"written to {made.write(results)}\n")
