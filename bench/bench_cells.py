"""What our rules cost a packet from one cell to another: beside the tunnel alone, and a ten-rule firewall on both hosts."""

from pathlib import Path

import click

from bench.script import compared, options
from bench.stages import tunnel_paths
from bench.stages.path_rounds import FEW, MANY, Plan, measured


@click.command()
@options(rounds=10)
@click.option("--milliseconds", default=300, show_default=True, type=click.IntRange(1), help="Length of each measurement.")
@click.option("--few", default=FEW, show_default=True, type=click.IntRange(1), help="Rules of a cell where there are few.")
@click.option("--many", default=MANY, show_default=True, type=click.IntRange(1, 20_000), help="Where there are many.")
def cells(*, rounds: int, runs: int, milliseconds: int, few: int, many: int, results: Path) -> None:
    """The data path between two cells beside others."""
    plan = Plan(tunnel_paths.make, rounds * runs, milliseconds, few, many, where=" between cells")
    compared("cells", lambda: measured(plan), results=results)


if __name__ == "__main__":
    cells()
