"""What rules to the outside cost what a container sends there: beside the bare path, a ten-rule firewall, and a flat list. And
how soon an app that asks for a name is connected to what it stands for."""

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from bench.loads import named_calls
from bench.loads.load import CONNECTIONS, LATENCY, Ends, compiled
from bench.reports.comparison import Figure, Limit, ratio
from bench.script import compared, options
from bench.stages import egress_paths
from bench.stages.path_rounds import BARE, NAMES, TEN, UNITS, WITH_FEW, WITHIN_FIVE, Measured, Values, forget
from bench.stages.paths import Rules, Setting
from bench.stages.scene import short_lived_folder
from dataplane.firewall.backends.backends import Backend

FEW, MANY = 10, 10_000
FLAT = "flat list"
BESIDE_TEN = {LATENCY: Limit(most=1.2)}


def settings(few: int, many: int) -> list[Setting]:
    """The bare path has no backend, so it is under the first."""
    found = [Setting(Rules.NONE, Backend.NFT)]
    for backend in Backend:
        found += [Setting(Rules.TEN, backend), Setting(Rules.FLAT_ESTABLISHED, backend, many)]
        found += [Setting(Rules.OURS, backend, count) for count in (few, many)]
    return found


@contextlib.contextmanager
def ready(chosen: Sequence[Setting]) -> Iterator[list[Measured]]:
    """All paths, each with its server outside."""
    with short_lived_folder() as folder, contextlib.ExitStack() as stack:
        program = compiled(folder)
        found = []
        for number, setting in enumerate(chosen):
            made = egress_paths.make(setting, folder / str(number))
            ends = stack.enter_context(Ends(program, client=made.client, server=made.server, address=made.address))
            found.append(Measured(setting, made, ends, seldom=False))
        yield found


def measured(*, rounds: int, milliseconds: int, few: int, many: int) -> tuple[Figure, ...]:
    """The figures of all paths, which take turns in every round."""
    chosen = settings(few, many)
    values: dict[tuple[str, Setting], list[float]] = {}
    with ready(chosen) as paths:
        for _ in range(rounds):
            for path in random.sample(paths, len(paths)):
                for what in (LATENCY, CONNECTIONS):
                    found = path.ends.measure(what, milliseconds=milliseconds)
                    values.setdefault((what, path.setting), []).append(found)
                forget(path.made)
    return tuple(_figure(values, what, each, few=few, many=many) for what in (LATENCY, CONNECTIONS) for each in chosen)


def _figure(values: Values, what: str, setting: Setting, *, few: int, many: int) -> Figure:
    own = tuple(values[what, setting])
    beside = {name: ratio(own, tuple(values[what, other])) for name, other in _yardsticks(setting, few, many).items()}
    bars = {}
    if WITH_FEW in beside:
        bars[WITH_FEW] = WITHIN_FIVE[what]
    if setting.rules is Rules.OURS and what in BESIDE_TEN:
        bars[TEN] = BESIDE_TEN[what]
    return Figure(f"{NAMES[what]} to outside", str(setting), UNITS[what], own, beside, bars)


def _yardsticks(setting: Setting, few: int, many: int) -> Mapping[str, Setting]:
    """What stands beside it, by name."""
    if setting.rules is Rules.NONE:
        return {}
    found = {BARE: Setting(Rules.NONE, Backend.NFT)}
    if setting.rules is Rules.OURS:
        found |= {TEN: Setting(Rules.TEN, setting.backend), FLAT: Setting(Rules.FLAT_ESTABLISHED, setting.backend, many)}
        if setting.count != few:
            found[WITH_FEW] = Setting(Rules.OURS, setting.backend, few)
    return found


@click.command()
@options(rounds=10)
@click.option("--milliseconds", default=200, show_default=True, type=click.IntRange(1), help="Length of each measurement.")
@click.option("--few", default=FEW, show_default=True, type=click.IntRange(1), help="Rules where there are few.")
@click.option("--many", default=MANY, show_default=True, type=click.IntRange(1, MANY), help="Rules where there are many.")
def egress(*, rounds: int, runs: int, milliseconds: int, few: int, many: int, results: Path) -> None:
    """The way to the outside beside others."""

    def figures() -> tuple[Figure, ...]:
        found = measured(rounds=rounds * runs, milliseconds=milliseconds, few=few, many=many)
        return (*found, *named_calls.measured(rounds=rounds * runs))

    compared("egress", figures, results=results)


if __name__ == "__main__":
    egress()
