"""How much memory agent and Envoy take, by the number of idle containers, and how much more after others came and went; and
what of it are the agent's libraries.

RSS is all that is in memory for a process, PSS gives each its share of what several have in common. Every round is a cell
of its own. Envoy keeps what was removed for half a minute, for clients that are still connected: readings wait for its end.
It gives pages back only after five minutes, so its growth is judged by what it reports as allocated.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from agent.errors import HostRefused
from bench.reports.comparison import Figure, Limit
from bench.script import compared, options
from bench.stages.scene import Scene, opened
from dataplane.envoy.process import admin
from dataplane.envoy.process.command import DRAIN_SECONDS
from host.process import run
from lab.cell import Part

PARTS = (Part.AGENT, Part.ENVOY)
BARS = {Part.AGENT: Limit(most=130), Part.ENVOY: Limit(most=100)}  # megabytes of RSS with that many containers
IDLE = 250
ALLOCATED = "allocated"
GROWING = {Part.AGENT: "PSS", Part.ENVOY: ALLOCATED}
GROWTH = Limit(most=1)  # megabytes: pages come in lumps, and a leak of 2 KB each time would be 2
WARM = 5  # bursts in which caches fill
AT_ONCE, CLIENTS = 50, 20
PREFIX = 23  # room for a burst beside 250
SETTLED = DRAIN_SECONDS + 5.0
# what each takes after those before it; the last is all of the agent's own, with what it needs besides
LIBRARIES = ("asyncio", "structlog", "yaml", "cryptography.x509", "pydantic", "aiohttp.web", "prometheus_client", "grpc.aio",
             "dataplane.envoy.translation", "agent.daemon.main")  # fmt: skip
LOADING = """
import importlib, sys
for name in ("sys", *sys.argv[1:]):
    importlib.import_module(name)
    print(next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Rss:")).split()[1])
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """Megabytes of one part in one setting."""

    part: Part
    setting: str
    kind: str
    value: float


def reading(scene: Scene, setting: str, *, wait: float) -> Iterator[Reading]:
    """After `wait` seconds without anything to do."""
    time.sleep(wait)
    for part in PARTS:
        found = scene.cell.part(part)
        if found is None:
            raise HostRefused(f"the cell's {part.value} has ended", hint="see the cell's log")
        lines = (line.split() for line in Path(f"/proc/{found.pid}/smaps_rollup").read_text().splitlines()[1:])
        sizes = {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in lines}
        for kind in ("Rss", "Pss"):
            yield Reading(part, setting, kind.upper(), sizes[kind])
    allocated = admin.server(scene.cell.root / "run/cellnet/envoy/admin/admin.sock", timeout=5).memory
    yield Reading(Part.ENVOY, setting, ALLOCATED, allocated / 1e6)


def bursts(scene: Scene, paths: Sequence[Path], *, times: int) -> None:
    """Attach and detach all of them, `times` times."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(times):
            list(pool.map(lambda path: scene.attach(f"burst/there/{path.name}", netns=path), paths))
            list(pool.map(lambda path: scene.detach(path.name), paths))


def readings(*, attached: Sequence[int], cycles: int, wait: float) -> Iterator[Reading]:
    """Of one cell."""
    with opened(f"overlay.cell_prefix={PREFIX}") as scene:
        before = 0
        for there in sorted(attached):
            scene.fill(there, first=before)
            before = there
            yield from reading(scene, f"{there:,} attached", wait=wait)
        paths = [scene.namespace(f"burst-{number}") for number in range(min(AT_ONCE, cycles))]
        if paths:
            bursts(scene, paths, times=WARM)
            yield from reading(scene, _later(before, 0), wait=wait)
            bursts(scene, paths, times=cycles // len(paths))
            yield from reading(scene, _later(before, cycles), wait=wait)


def _later(there: int, cycles: int) -> str:
    return f"{there:,} attached, {cycles:,} more came and went" if cycles else f"{there:,} attached, warm"


def figures(found: Sequence[Reading]) -> Iterator[Figure]:
    """One for each part, kind and setting."""
    groups: dict[tuple[Part, str, str], list[float]] = {}
    for each in found:
        groups.setdefault((each.part, each.kind, each.setting), []).append(each.value)
    for part in PARTS:
        for (of, kind, setting), values in groups.items():
            if of is part:
                limit = BARS[part] if kind == "RSS" and setting == f"{IDLE:,} attached" else None
                yield Figure(f"{part.value}, {kind}", setting, "MB", tuple(values), limit=limit)


def growth(found: Sequence[Figure]) -> Iterator[Figure]:
    """What each part has more after the cycles than when it was warm."""
    for part, kind in GROWING.items():
        *_, warm, later = [each for each in found if each.what == f"{part.value}, {kind}"]
        more = tuple(after - before for before, after in zip(warm.values, later.values, strict=True))
        yield Figure(f"{part.value}, growth of {kind}", later.setting, "MB", more, limit=GROWTH)


def libraries() -> Iterator[Figure]:
    """What a fresh interpreter takes, and each import that follows."""
    sizes = [int(each) * 1024 / 1e6 for each in run([sys.executable, "-c", LOADING, *LIBRARIES], timeout=60).split()]
    for name, before, after in zip(("interpreter", *LIBRARIES), (0.0, *sizes), sizes, strict=False):
        yield Figure(f"agent, import of {name}" if before else f"agent, {name}", "fresh process", "MB", (after - before,))


def measured(*, times: int, attached: Sequence[int], cycles: int, wait: float) -> tuple[Figure, ...]:
    """All figures of `times` cells."""
    found = [each for _ in range(times) for each in readings(attached=attached, cycles=cycles, wait=wait)]
    made = tuple(figures(found))
    return made + (tuple(growth(made)) if cycles else ()) + tuple(libraries())


@click.command()
@options(rounds=1, runs=1)
@click.option("--attached", default=(1, 50, 250), show_default=True, multiple=True, help="Idle containers; may be repeated.")
@click.option("--cycles", default=1000, show_default=True, type=click.IntRange(0), help="Attaches and detaches at the end.")
@click.option("--wait", default=SETTLED, show_default=True, help="Seconds at rest before each reading.")
def memory(*, rounds: int, runs: int, attached: tuple[int, ...], cycles: int, wait: float, results: Path) -> None:
    """Memory of agent and Envoy."""
    compared("memory", lambda: measured(times=rounds * runs, attached=attached, cycles=cycles, wait=wait), results=results)


if __name__ == "__main__":
    memory()
