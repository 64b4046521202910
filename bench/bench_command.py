"""How long a command takes from its start to its end, beside the bare interpreter and the commands of others.

They take turns, so that what the machine does meanwhile meets all of them.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import click

from agent.errors import HostRefused
from bench.reports.comparison import Figure, Limit
from bench.script import Stopwatch, compared, options, repeat
from bench.stages.scene import Scene, opened

BARE = "python3 -c pass"
OTHERS = (("etcdctl", "version"), ("podman", "--version"))
MORE = Limit(most=60)  # milliseconds
SETTING = "beside the others, in turn"
POLICY = "policies:\n  - {name: from-a-caller, from: shop/web/caller, to: shop/web/api, tcp: [8080]}\n"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def commands(scene: Scene) -> Mapping[str, Sequence[str]]:
    """What is run, by what it is called here."""
    cellnet = (str(Path(sys.executable).with_name("cellnet")), "--root", str(scene.cell.root))
    asked = ("ps", "status", "policy check shop/web/caller shop/web/api tcp/8080", "exec api -- true")
    ours = {f"cellnet {each}": (*cellnet, *each.split()) for each in asked}
    others = {" ".join(each): each for each in OTHERS if shutil.which(each[0])}
    return {BARE: (str(Path(sys.executable).resolve()), "-c", "pass"), **ours, **others}


def took(argv: Sequence[str]) -> float:
    """Milliseconds. Raises HostRefused where it fails."""
    begun = time.perf_counter()
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    ended = time.perf_counter()
    if done.returncode:
        raise HostRefused(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}", hint="see the cell's log")
    return (ended - begun) * 1000


def one_round(called: Mapping[str, Sequence[str]], watch: Stopwatch) -> None:
    """Each of them once."""
    for what, argv in called.items():
        watch.add(what, took(argv))


def figures(times: Mapping[str, tuple[float, ...]]) -> Iterator[Figure]:
    """Each command's time, and how much more ours take than the bare interpreter in the same round."""
    for what, values in times.items():
        yield Figure(what, SETTING, "ms", values)
    for what in times:
        if what.startswith("cellnet"):
            more = tuple(value - bare for value, bare in zip(times[what], times[BARE], strict=True))
            yield Figure(what, f"more than {BARE}", "ms", more, limit=MORE)


def measured(*, rounds: int, runs: int) -> tuple[Figure, ...]:
    """All of them, in one cell."""
    for name in sorted({each[0] for each in OTHERS if not shutil.which(each[0])}):
        click.echo(f"{name} is not here: left out")
    with opened() as scene:
        scene.container("shop/web/api")
        scene.put_file("command.yaml", POLICY)
        scene.sync()
        called = commands(scene)
        for argv in called.values():
            took(argv)  # what is read and compiled once
        watch = repeat(partial(one_round, called), rounds=rounds, runs=runs)
        return tuple(figures({what: tuple(time for run in watch.of(what) for time in run) for what in called}))


@click.command()
@options(rounds=20)
def command(*, rounds: int, runs: int, results: Path) -> None:
    """The time of a command."""
    compared("command", lambda: measured(rounds=rounds, runs=runs), results=results)


if __name__ == "__main__":
    command()
