"""Strict mutual TLS beside plain TCP and beside a pair of HAProxies with mutual TLS, on one processor; and what it takes.

All paths take turns in every round. Beside readers that pause, a request of another connection between the same two containers
is timed; and beside root in a third container that destroys Envoy's sockets in there. Memory is of all processes that carry a
path.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from bench.bench_memory import IDLE, SETTLED
from bench.loads.attacks import ATTACKS, attacked
from bench.loads.callers import milliseconds as timed
from bench.loads.load import CONNECTIONS, LATENCY, REQUESTS, SLOWEST, THROUGHPUT
from bench.reports.comparison import Figure, Limit, ratio
from bench.script import compared, options, pause
from bench.stages.mutual_paths import Tunnelled, staged, strict
from bench.stages.scene import Scene, opened
from lab.cell import Part

KEPT = 16  # connections of callers at once
Row = tuple[str, str, int]
ROWS: Mapping[Row, tuple[str, str, Limit | None]] = {
    ("throughput, one stream", THROUGHPUT, 1): ("Gbit/s", "strict", Limit(least=0.9)),
    ("throughput, eight streams", THROUGHPUT, 8): ("Gbit/s", "strict", Limit(least=0.9)),
    ("request and answer", LATENCY, 1): ("µs", "strict", None),
    (f"requests on {KEPT} kept connections", REQUESTS, KEPT): ("1/s", "strict", Limit(least=0.9)),
    (f"new connections of {KEPT} callers", CONNECTIONS, KEPT): ("1/s", "strict", Limit(least=4)),
}
PAUSED, MANY = 100, 1_000
ATTACH_BARS = {1: 40, 50: 40, IDLE: 50}
ENVOY_BAR = Limit(most=160)


def rates(paths: Sequence[Tunnelled], *, rounds: int, milliseconds: int) -> Iterator[Figure]:
    """Of all rows, in turn."""
    values: dict[tuple[Row, str], list[float]] = {}
    for _ in range(rounds):
        for path in random.sample(paths, len(paths)):
            for row in ROWS:
                _, what, processes = row
                found = path.measure(what, milliseconds=milliseconds, processes=processes)
                values.setdefault((row, path.name), []).append(found)
    for row, (unit, own, bar) in ROWS.items():
        for path in paths:
            mine = tuple(values[row, path.name])
            others = () if path.name == "plain" else [each for each in paths if each.name not in (path.name, "strict")]
            beside = {other.name: ratio(mine, tuple(values[row, other.name])) for other in others}
            bars = {"HAProxy pair": bar} if bar is not None and path.name == own else {}
            yield Figure(row[0], path.name, unit, mine, beside, bars)


def beside_paused(paths: Sequence[Tunnelled], *, rounds: int, milliseconds: int) -> Iterator[Figure]:
    """The slowest of 100 requests on another connection."""
    for path in paths:
        with path.kept("paused", PAUSED):
            found = tuple(path.measure(SLOWEST, milliseconds=milliseconds) / 1000 for _ in range(rounds))
        limit = Limit(most=50) if path.name == "strict" else None
        yield Figure(f"request beside {PAUSED} paused readers, p99", path.name, "ms", found, limit=limit)


def beside_attacks(*, rounds: int, milliseconds: int) -> Iterator[Figure]:
    """The slowest of 100 requests of a container while root in another one is at Envoy's sockets in there."""
    with strict() as (scene, path):
        other = scene.container("evil/shop/other")
        for attack in ATTACKS:
            with attacked(other.pin, attack):
                time.sleep(1)
                found = tuple(path.measure(SLOWEST, milliseconds=milliseconds) / 1000 for _ in range(rounds))
            yield Figure(f"request beside {attack}, p99", path.name, "ms", found, limit=Limit(most=50))


def memory_of_connections(paths: Sequence[Tunnelled]) -> Iterator[Figure]:
    """What idle connections take."""
    for path in paths:
        if not path.carriers:
            continue
        before = path.resident()
        with path.kept("idle", MANY):
            time.sleep(1)
            yield Figure(f"{MANY:,} idle connections, RSS", path.name, "MB", (path.resident() - before,))


def attaches(*, attached: Sequence[int], rounds: int, settled: float) -> Iterator[Figure]:
    """How long one takes in strict mode, and what Envoy has with the most containers."""
    with opened("tls.mtls=strict") as scene:
        there = 0
        for wanted in sorted(attached):
            scene.fill(wanted, first=there)
            there = wanted
            times = tuple(_attach(scene, f"single-{wanted}-{number}") for number in range(rounds))
            limit = Limit(most=ATTACH_BARS[wanted]) if wanted in ATTACH_BARS else None
            yield Figure("attach in strict mode", f"{wanted:,} attached", "ms", times, limit=limit)
        time.sleep(settled)
        envoy = scene.cell.part(Part.ENVOY)
        assert envoy is not None
        lines = Path(f"/proc/{envoy.pid}/smaps_rollup").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024 / 1e6
        yield Figure("envoy in strict mode, RSS", f"{there:,} attached", "MB", (resident,), limit=ENVOY_BAR)


def _attach(scene: Scene, name: str) -> float:
    path = scene.namespace(name)
    pause()
    took = timed(lambda: scene.attach("acme/shop/single", netns=path))
    scene.detach(name)
    return took


@click.command()
@options(rounds=8)
@click.option("--milliseconds", default=500, show_default=True, type=click.IntRange(1), help="Length of each measurement.")
@click.option(
    "--attached", default=tuple(ATTACH_BARS), show_default=True, multiple=True, help="Containers there before; may be repeated."
)
@click.option("--settled", default=SETTLED, show_default=True, help="Seconds at rest before memory is read.")
def mtls(*, rounds: int, runs: int, milliseconds: int, attached: tuple[int, ...], settled: float, results: Path) -> None:
    """Mutual TLS."""

    def measured() -> tuple[Figure, ...]:
        with staged() as paths:
            found = (
                *rates(paths, rounds=rounds * runs, milliseconds=milliseconds),
                *beside_paused(paths, rounds=runs, milliseconds=milliseconds),
                *memory_of_connections(paths),
            )
        attacks = beside_attacks(rounds=runs, milliseconds=milliseconds)
        return (*found, *attacks, *attaches(attached=attached, rounds=rounds * runs, settled=settled))

    compared("mtls", measured, results=results)


if __name__ == "__main__":
    mtls()
