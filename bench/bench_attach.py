"""How long an attach takes, from the request to everything in place and listening, and a detach; singly and many at once. And
what a look at the kernel costs with so many."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import click

from bench import floor, look
from bench.floor import Floor
from bench.loads.callers import milliseconds
from bench.reports.figures import Bar, Series
from bench.script import Stopwatch, backends, looks, main, options, pause, repeat
from bench.stages.scene import Scene, containers, opened

ATTACH, DETACH = "attach -> in place and listening", "detach -> nothing left"
AT_ONCE, ALL = "attach, each of {many} from {clients} clients at once", "attach, all {many} from {clients} clients"
FEW_RULES = 1000
CELL_PREFIX = 24
SINGLES = 8  # addresses besides: those that are measured, and the ends of the subnet


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


@dataclass(frozen=True, slots=True)
class Around:
    """What else is there: the backend, how many containers, and how many rules for them."""

    backend: str
    attached: int
    rules: int = 0

    def __str__(self) -> str:
        rules = f", {self.rules:,} rules" if self.rules else ""
        return f"{self.attached:,} attached{rules}, {self.backend}"

    @property
    def bar(self) -> Bar:
        """Of an attach."""
        return Bar(p50={"nft": 45, "legacy": 120}[self.backend] if self.rules > FEW_RULES else 40)


@dataclass(frozen=True, slots=True)
class Crowds:
    """What is around in turn, and the bursts at the end. `rules` make as many containers as they need (`scene.surround`)."""

    attached: tuple[int, ...]
    rules: tuple[int, ...]
    bursts: int
    many: int
    clients: int

    def settings(self, scene: Scene, backend: str) -> Iterator[Around]:
        """Each made when it is asked for, from less to more."""
        there = 0
        for wanted in sorted(self.attached):
            scene.fill(wanted, first=there)
            there = wanted
            yield Around(backend, there)
        for wanted in sorted(self.rules):
            there = scene.surround(wanted, there=there)
            yield Around(backend, there, wanted)

    @property
    def prefix(self) -> int:
        """Of a cell that has room for all of it."""
        most = max((*self.attached, *map(containers, self.rules))) + self.many + SINGLES
        return min(CELL_PREFIX, 32 - most.bit_length())


def measured(
    backends: tuple[str, ...], crowds: Crowds, *, rounds: int, runs: int, looks: float
) -> tuple[tuple[Series, ...], dict[str, Series]]:
    """The series and the floors, by what is around, and the bursts."""
    series: list[Series] = []
    floors: dict[str, Series] = {}
    for backend in backends:
        with (
            opened(f"firewall.backend={backend}", f"overlay.cell_prefix={crowds.prefix}", looks=looks) as scene,
            Floor(scene, backend=backend) as by_hand,
        ):
            setting = ""
            for around in crowds.settings(scene, backend):
                setting = str(around)
                watch = repeat(OneByOne(scene, by_hand).measure, rounds=rounds, runs=runs)
                floors[setting] = Series(floor.WHAT, setting, watch.of(floor.WHAT))
                bars = {ATTACH: around.bar, DETACH: Bar()}
                series += [Series(what, setting, watch.of(what), bar) for what, bar in bars.items()]
                looked = look.measured(scene, backend=backend, rounds=rounds)
                series.append(Series(look.WHAT, setting, (looked,), Bar(p50=20)))
            burst = Burst(scene, many=crowds.many, clients=crowds.clients)
            watch = repeat(burst.measure, rounds=crowds.bursts, runs=runs)
            series += [Series(what, f"{setting} before", watch.of(what)) for what in (burst.each, burst.all)]
    return tuple(series), floors


@click.command()
@options(rounds=50)
@backends()
@looks()
@click.option(
    "--attached", default=(1, 50, 250), show_default=True, multiple=True, help="Containers there before; may be repeated."
)
@click.option(
    "--rules", default=(20_000,), show_default=True, multiple=True, help="Rules there, of 80 a container; may be repeated."
)
@click.option("--bursts", default=3, show_default=True, type=click.IntRange(1), help="Bursts of each run.")
@click.option("--many", default=50, show_default=True, type=click.IntRange(1), help="Containers of a burst.")
@click.option("--clients", default=20, show_default=True, type=click.IntRange(1), help="Callers of a burst.")
def attach(
    *, rounds: int, runs: int, backends: tuple[str, ...], looks: float, attached: tuple[int, ...], rules: tuple[int, ...],
    bursts: int, many: int, clients: int, results: Path,
) -> None:  # fmt: skip
    """Attach and detach."""
    crowds = Crowds(attached, rules, bursts, many, clients)
    main("attach", lambda: measured(backends, crowds, rounds=rounds, runs=runs, looks=looks), results=results)


if __name__ == "__main__":
    attach()
