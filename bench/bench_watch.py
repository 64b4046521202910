"""What a cell and its etcd have to do with each other: while nothing changes, and while policies change all the time.

All figures are of the last cell, which is not the one where policies are changed; only the requests are those of all cells, as
etcd counts them. Octets are without what TCP and IP add.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import click

from agent.errors import HostRefused
from bench.loads.load import processor_seconds
from bench.reports.comparison import Figure
from bench.script import compared, options
from bench.stages import many_cells
from bench.stages.many_cells import ManyCells
from host.namespace import NamespaceThread, run_in
from host.process import run
from lab.cell import Part

RATE = 10  # changes in one second
SECONDS = 10.0
TIMEOUT = 10.0
SENT, RECEIVED, PROCESSOR = "octets to etcd", "octets from etcd", "processor time of the agent"
REQUESTS, EVENTS, CHANGES = "requests to etcd from all cells", "events from etcd", "changes"
UNITS = {CHANGES: "1/s", REQUESTS: "1/s", EVENTS: "1/s", SENT: "B/s", RECEIVED: "B/s", PROCESSOR: "ms/s"}
COUNTED = re.compile(r"^(grpc_server_msg_received_total|etcd_debugging_mvcc_events_total)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
WORDS = {"grpc_server_msg_received_total": REQUESTS, "etcd_debugging_mvcc_events_total": EVENTS}
CONNECTION = re.compile(r"^\d+ +\d+ +(\S+) +\S+ (.*)$", re.MULTILINE)  # queues, ends, what ss knows besides


@dataclass(frozen=True, slots=True)
class Counters:
    """All that has been counted so far, and when. `octets` are of each connection, by the cell's own end: sent, received."""

    at: float
    octets: Mapping[str, tuple[int, int]]
    metrics: Mapping[str, float]
    processor: float


class Watcher:
    """Reads the counters of the last cell and of etcd."""

    def __init__(self, place: ManyCells) -> None:
        segment, cell = place.lab.segment, place.scenes[-1].cell
        agent = cell.part(Part.AGENT)
        if segment is None or agent is None:
            raise HostRefused("there is no etcd, or no agent", hint="see the cells' logs")
        self._cells, self._agent = len(place.scenes), agent.pid
        self._url, self._netns = segment.etcd.url, segment.netns
        self._inside = NamespaceThread(cell.netns, name="watcher")

    def close(self) -> None:
        """Give the thread back."""
        self._inside.close()

    def rates(self, meanwhile: Callable[[float], int], *, seconds: float) -> Mapping[str, float]:
        """What one cell had for each second; `meanwhile` returns after `seconds`, and how many changes it has made."""
        before = self._read()
        changes = meanwhile(seconds)
        after = self._read()
        took = after.at - before.at
        nothing = (0, 0)
        sent, received = (
            sum(now[way] - before.octets.get(end, nothing)[way] for end, now in after.octets.items()) for way in (0, 1)
        )
        of_etcd = {what: value - before.metrics[what] for what, value in after.metrics.items()}
        of_etcd[EVENTS] /= self._cells
        processor = (after.processor - before.processor) * 1000
        found = {CHANGES: changes, **of_etcd, SENT: sent, RECEIVED: received, PROCESSOR: processor}
        return {what: value / took for what, value in found.items()}

    def _read(self) -> Counters:
        listed = self._inside.call(lambda: run(["ss", "-tniHO", "state", "established", "dport", "=", "2379"], timeout=TIMEOUT))
        connections = CONNECTION.findall(listed.decode())
        octets = {end: (_counter("sent", words), _counter("received", words)) for end, words in connections}
        text = run_in(self._netns, lambda: urlopen(f"{self._url}/metrics", timeout=TIMEOUT).read().decode())
        metrics = dict.fromkeys(WORDS.values(), 0.0)
        for name, value in COUNTED.findall(text):
            metrics[WORDS[name]] += float(value)
        return Counters(time.monotonic(), octets, metrics, processor_seconds(self._agent))


def _counter(name: str, words: str) -> int:
    found = re.search(rf"\bbytes_{name}:(\d+)", words)
    return int(found[1]) if found else 0


def rest(seconds: float) -> int:
    """No changes."""
    time.sleep(seconds)
    return 0


def changing(place: ManyCells, seconds: float) -> int:
    """RATE changes in each second, or as many as can be."""
    started, count = time.monotonic(), 0
    while time.monotonic() < started + seconds or count % 2:
        (place.delete if count % 2 else place.allow)()
        count += 1
        time.sleep(max(started + count / RATE - time.monotonic(), 0.0))
    return count


def figures(place: ManyCells, policies: int, *, rounds: int, seconds: float) -> Iterator[Figure]:
    """Both ways in turn, with so many policies around."""
    ways: Mapping[str, Callable[[float], int]] = {
        "idle": rest,
        f"{RATE} policies a second": lambda seconds: changing(place, seconds),
    }
    found: dict[tuple[str, str], list[float]] = {}
    place.surround(policies)
    watcher = Watcher(place)
    try:
        for _ in range(rounds):
            for name, way in ways.items():
                for what, value in watcher.rates(way, seconds=seconds).items():
                    found.setdefault((what, name), []).append(value)
    finally:
        watcher.close()
    for name in ways:
        for what, unit in UNITS.items():
            yield Figure(what, f"{len(place.scenes)} cells, {policies:,} policies, {name}", unit, tuple(found[what, name]))


def measured(*, cells: int, policies: int, rounds: int, seconds: float) -> tuple[Figure, ...]:
    """On cells of its own."""
    with many_cells.built(cells) as place:
        return tuple(figures(place, policies, rounds=rounds, seconds=seconds))


@click.command()
@options(rounds=5, runs=1)
@click.option("--cells", default=3, show_default=True, type=click.IntRange(2, 20), help="How many there are.")
@click.option("--policies", default=1000, show_default=True, type=click.IntRange(0), help="For other apps.")
@click.option("--seconds", default=SECONDS, show_default=True, help="Length of each measurement.")
def watch(*, rounds: int, runs: int, cells: int, policies: int, seconds: float, results: Path) -> None:
    """A cell's part of the load of etcd."""
    times = rounds * runs
    compared("watch", lambda: measured(cells=cells, policies=policies, rounds=times, seconds=seconds), results=results)


if __name__ == "__main__":
    watch()
