"""How long an attach takes, from the request to everything in place and listening, and a detach; singly and many at once."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import click

from bench import floor
from bench.figures import Bar, Series
from bench.floor import Floor
from bench.inside import milliseconds
from bench.scene import Scene, opened
from bench.script import Stopwatch, main, options, pause, repeat

ATTACH, DETACH = "attach -> in place and listening", "detach -> nothing left"
AT_ONCE, ALL = "attach, each of {many} from {clients} clients at once", "attach, all {many} from {clients} clients"
BARS = {ATTACH: Bar(p50=40)}


class OneByOne:
    """Every round a namespace that has never been attached."""

    def __init__(self, scene: Scene, by_hand: Floor) -> None:
        self._scene = scene
        self._floor = by_hand
        self._numbers = count()

    def measure(self, watch: Stopwatch) -> None:
        """One round."""
        name = f"single-{next(self._numbers)}"
        path = self._scene.namespace(name)
        watch.add(floor.WHAT, self._floor.measure())
        watch.add(ATTACH, milliseconds(lambda: self._scene.attach("acme/shop/single", netns=path)))
        pause()
        watch.add(DETACH, milliseconds(lambda: self._scene.detach(name)))


class Burst:
    """Every round `many` new namespaces, which `clients` callers share among them."""

    def __init__(self, scene: Scene, *, many: int, clients: int) -> None:
        self._scene = scene
        self._many = many
        self._clients = clients
        self._numbers = count()
        self.each = AT_ONCE.format(many=many, clients=clients)
        self.all = ALL.format(many=many, clients=clients)

    def measure(self, watch: Stopwatch) -> None:
        """One round."""
        paths = [self._scene.namespace(f"burst-{next(self._numbers)}") for _ in range(self._many)]
        with ThreadPoolExecutor(self._clients) as pool:
            started = time.monotonic()
            for took in pool.map(self._attach, paths):
                watch.add(self.each, took)
            watch.add(self.all, (time.monotonic() - started) * 1000)
            list(pool.map(lambda path: self._scene.detach(path.name), paths))

    def _attach(self, path: Path) -> float:
        return milliseconds(lambda: self._scene.attach("acme/shop/burst", netns=path))


def measured(
    *, attached: tuple[int, ...], rounds: int, runs: int, bursts: int, many: int, clients: int
) -> tuple[tuple[Series, ...], Mapping[str, Series]]:
    """The series and the floors, for each number of containers that are there already, and the bursts."""
    series: list[Series] = []
    floors: dict[str, Series] = {}
    with opened() as scene, Floor(scene) as by_hand:
        before = 0
        for there in sorted(attached):
            scene.fill(there, first=before)
            before = there
            setting = f"{there:,} attached"
            watch = repeat(OneByOne(scene, by_hand).measure, rounds=rounds, runs=runs)
            floors[setting] = Series(floor.WHAT, setting, watch.of(floor.WHAT))
            series += [Series(what, setting, watch.of(what), BARS.get(what, Bar())) for what in (ATTACH, DETACH)]
        burst = Burst(scene, many=many, clients=clients)
        watch = repeat(burst.measure, rounds=bursts, runs=runs)
        series += [Series(what, f"{before:,} attached before", watch.of(what)) for what in (burst.each, burst.all)]
    return tuple(series), floors


@click.command()
@options(rounds=50)
@click.option("--attached", default=(1, 50), show_default=True, multiple=True, help="Containers there before; may be repeated.")
@click.option("--bursts", default=3, show_default=True, type=click.IntRange(1), help="Bursts of each run.")
@click.option("--many", default=50, show_default=True, type=click.IntRange(1), help="Containers of a burst.")
@click.option("--clients", default=20, show_default=True, type=click.IntRange(1), help="Callers of a burst.")
def attach(*, rounds: int, runs: int, attached: tuple[int, ...], bursts: int, many: int, clients: int, results: Path) -> None:
    """Attach and detach."""
    main(
        "attach",
        lambda: measured(attached=attached, rounds=rounds, runs=runs, bursts=bursts, many=many, clients=clients),
        results=results,
    )


if __name__ == "__main__":
    attach()
