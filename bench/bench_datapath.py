"""What our rules cost a packet: beside the bare path, a ten-rule firewall, and lists that grow with the policies."""

from pathlib import Path

import click

from bench.script import compared, options
from bench.stages import paths
from bench.stages.path_rounds import FEW, MANY, Plan, measured
from bench.stages.paths import Rules, Setting
from dataplane.firewall.backends.backends import Backend

BETWEEN = (100, 1_000, 5_000)


def of_the_chart(counts: tuple[int, ...]) -> tuple[Setting, ...]:
    """How it grows: ours, and two ways to write all rules one after the other."""
    kinds = [(rules, Backend.NFT) for rules in (Rules.OURS, Rules.FLAT, Rules.FLAT_ESTABLISHED)] + [
        (Rules.FLAT, Backend.LEGACY)
    ]
    return tuple(Setting(rules, backend, count) for rules, backend in kinds for count in counts)


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
    growing = () if no_chart or not chart else of_the_chart((few, *chart, many))
    plan = Plan(paths.make, rounds * runs, milliseconds, few, many, growing)
    compared("datapath", lambda: measured(plan), results=results)


if __name__ == "__main__":
    datapath()
