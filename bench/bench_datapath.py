"""What our rules cost a packet: beside the bare path, a ten-rule firewall, and lists that grow with the policies.

All paths are there at once and take turns in every round, in another order each time. The seven that bars speak of are in every
round, those of the chart in every third.
"""

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from bench.comparison import Figure, Limit, ratio
from bench.load import CONNECTIONS, LATENCY, THROUGHPUT, Ends, compiled
from bench.paths import Made, Rules, Setting, make
from bench.scene import short_lived_folder
from bench.script import compared, options
from dataplane.firewall.choice import Backend
from dataplane.namespace import run_in
from dataplane.process import run

FEW, MANY = 10, 20_000
BETWEEN = (100, 1_000, 5_000)
UNITS = {LATENCY: "µs", CONNECTIONS: "1/s", THROUGHPUT: "Gbit/s"}
NAMES = {LATENCY: "request and answer", CONNECTIONS: "new connections", THROUGHPUT: "throughput"}
EVERY = 3
BARE, TEN, WITH_FEW = "bare", "ten-rule firewall", "cellnet, few rules"
WITHIN_FIVE = {LATENCY: Limit(most=1.05), CONNECTIONS: Limit(least=0.95)}
BESIDE_TEN = {LATENCY: Limit(most=1.2), THROUGHPUT: Limit(least=0.95)}

Values = Mapping[tuple[str, Setting], list[float]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A path that can be measured. `seldom` ones are those of the chart."""

    setting: Setting
    made: Made
    ends: Ends
    seldom: bool


def settings(few: int, many: int) -> list[Setting]:
    """Those that bars speak of; the bare path has no backend, so it is under the first."""
    found = [Setting(Rules.NONE, Backend.NFT)]
    for backend in Backend:
        found += [Setting(Rules.TEN, backend), Setting(Rules.OURS, backend, few), Setting(Rules.OURS, backend, many)]
    return found


def of_the_chart(counts: tuple[int, ...]) -> list[Setting]:
    """How it grows: ours, and two ways to write all rules one after the other."""
    kinds = [(rules, Backend.NFT) for rules in (Rules.OURS, Rules.FLAT, Rules.FLAT_ESTABLISHED)] + [
        (Rules.FLAT, Backend.LEGACY)
    ]
    return [Setting(rules, backend, count) for rules, backend in kinds for count in counts]


@contextlib.contextmanager
def ready(bars: list[Setting], chart: list[Setting]) -> Iterator[list[Measured]]:
    """All paths, each with its server."""
    with short_lived_folder() as folder, contextlib.ExitStack() as stack:
        program = compiled(folder)
        found = []
        for number, setting in enumerate([*bars, *(each for each in chart if each not in bars)]):
            made = make(setting, folder / str(number))
            ends = stack.enter_context(Ends(program, client=made.client, server=made.server, address=made.address))
            found.append(Measured(setting, made, ends, seldom=setting not in bars))
        yield found


def measured(*, rounds: int, milliseconds: int, few: int, many: int, chart: tuple[int, ...]) -> tuple[Figure, ...]:
    """The figures of all paths."""
    bars = settings(few, many)
    values: dict[tuple[str, Setting], list[float]] = {}
    with ready(bars, of_the_chart((few, *chart, many)) if chart else []) as paths:
        for number in range(rounds):
            for path in random.sample(paths, len(paths)):
                if number % EVERY and path.seldom:
                    continue
                for what in (LATENCY, CONNECTIONS) if path.seldom else UNITS:
                    values.setdefault((what, path.setting), []).append(path.ends.measure(what, milliseconds=milliseconds))
                forget(path.made)
        order = [each.setting for each in paths]
    return tuple(_figure(values, what, each, few, many) for what in UNITS for each in order if (what, each) in values)


def forget(made: Made) -> None:
    """Empty the host's table of connections, which is one for all namespaces of the machine: nobody pays for another's."""
    run_in(made.host, lambda: run(["conntrack", "-F"], timeout=30.0))


def _figure(values: Values, what: str, setting: Setting, few: int, many: int) -> Figure:
    own = tuple(values[what, setting])
    beside, bars = {}, {}
    for name, other in _yardsticks(setting, few).items():
        of_other = tuple(values[what, other])
        if len(of_other) == len(own):
            beside[name] = ratio(own, of_other)
    if setting.rules is Rules.OURS and setting.count == many and WITH_FEW in beside and what in WITHIN_FIVE:
        bars[WITH_FEW] = WITHIN_FIVE[what]
    if setting.rules is Rules.OURS and TEN in beside and what in BESIDE_TEN:
        bars[TEN] = BESIDE_TEN[what]
    return Figure(NAMES[what], str(setting), UNITS[what], own, beside, bars)


def _yardsticks(setting: Setting, few: int) -> Mapping[str, Setting]:
    found = {}
    if setting.rules is not Rules.NONE:
        found[BARE] = Setting(Rules.NONE, Backend.NFT)
    if setting.rules is Rules.OURS:
        found[TEN] = Setting(Rules.TEN, setting.backend)
        if setting.count != few:
            found[WITH_FEW] = Setting(Rules.OURS, setting.backend, few)
    return found


@click.command()
@options(rounds=10)
@click.option("--milliseconds", default=200, show_default=True, type=click.IntRange(1), help="Length of each measurement.")
@click.option("--few", default=FEW, show_default=True, type=click.IntRange(1), help="Rules where there are few.")
@click.option("--many", default=MANY, show_default=True, type=click.IntRange(1, 20_000), help="Rules where there are many.")
@click.option("--chart", default=BETWEEN, show_default=True, multiple=True, help="Numbers of rules between; may be repeated.")
@click.option("--no-chart", is_flag=True, help="Only what bars speak of.")
def datapath(
    *, rounds: int, runs: int, milliseconds: int, few: int, many: int, chart: tuple[int, ...], no_chart: bool, results: Path
) -> None:
    """The data path beside others."""
    between = () if no_chart else chart
    compared(
        "datapath",
        lambda: measured(rounds=rounds * runs, milliseconds=milliseconds, few=few, many=many, chart=between),
        results=results,
    )


if __name__ == "__main__":
    datapath()
