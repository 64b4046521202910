"""What it costs to follow what happens: the data path with a follower beside itself without, and the agent's processor time
while thousands of connections begin and are refused. And how long the agent takes to explain, and what the page of
`cellnet ui` takes in a browser.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from agent.errors import HostRefused
from agent.insight.flows.followers import EventKind
from bench.loads.event_follower import LOST, EventFollower
from bench.loads.load import CONNECTIONS, LATENCY, PORTS, SLOWEST, Ends, compiled, processor_seconds
from bench.page import page_figures
from bench.reports.comparison import Figure, ratio
from bench.script import compared, options
from bench.stages.scene import Scene, opened
from bench.stages.shop import API, WEB
from host.namespace import run_in
from host.process import run
from lab.cell import Part

RATE = 5_000
PAGES = 5  # rounds of the page at most: each is a browser of its own
NOTICED = 0.5  # seconds after which the agent knows that a follower has gone
REFUSING = 9_999  # a port that no policy opens
POLICY = f"policies: [{{from: {WEB}, to: {API}, tcp: [{PORTS[LATENCY]}-{PORTS[LATENCY] + 2}]}}]\n"
ALONE, FOLLOWED = "nobody follows", "one follows"
NAMES = {LATENCY: "request and answer", SLOWEST: "request and answer, p99", CONNECTIONS: "new connections"}
UNITS = {LATENCY: "µs", SLOWEST: "µs", CONNECTIONS: "1/s"}
NEW, REFUSALS = f"{RATE:,} new connections a second", f"{RATE:,} refusals a second"
MADE, PROCESSOR, TOLD, MISSED, EXPLAINED = (
    "connections made", "processor time of the agent", "connections told", "told that some were lost", "explain",
)  # fmt: skip
OF_LOAD = {MADE: "1/s", PROCESSOR: "ms/s", TOLD: "1/s", MISSED: "1/s"}
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Two containers of one cell, a load between them, and the agent."""

    scene: Scene
    ends: Ends
    agent: int

    @contextlib.contextmanager
    def followed(self, setting: str) -> Iterator[EventFollower | None]:
        """With a follower, if the setting has one."""
        if setting == ALONE:
            yield None
        else:
            with EventFollower(self.scene.client.path) as follower:
                yield follower
            time.sleep(NOTICED)

    def forget(self) -> None:
        """Empty the host's table of connections: none may pay for another's."""
        run_in(self.scene.cell.netns, lambda: run(["conntrack", "-F"], timeout=30.0))


@contextlib.contextmanager
def ready() -> Iterator[Place]:
    """All of it."""
    with opened() as scene, contextlib.ExitStack() as stack:
        web, api = scene.container(WEB), scene.container(API)
        scene.put_file("shop.yaml", POLICY)
        scene.sync()
        part = scene.cell.part(Part.AGENT)
        if part is None:
            raise HostRefused("there is no agent", hint="see the cell's log")
        program = compiled(scene.cell.root)
        ends = stack.enter_context(Ends(program, client=web.pin, server=api.pin, address=api.address))
        yield Place(scene, ends, part.pid)


def path_values(place: Place, setting: str, *, milliseconds: int) -> Iterator[tuple[Key, float]]:
    """The data path."""
    with place.followed(setting):
        for what in UNITS:
            yield (NAMES[what], setting), place.ends.measure(what, milliseconds=milliseconds)
    place.forget()


def load_values(place: Place, load: str, setting: str, *, milliseconds: int) -> Iterator[tuple[Key, float]]:
    """What the agent has to do while so many begin, or are refused."""
    port = PORTS[CONNECTIONS] if load == NEW else REFUSING
    with place.followed(setting) as follower:
        before, started = processor_seconds(place.agent), time.monotonic()
        made = place.ends.pace(port, milliseconds=milliseconds, rate=RATE)
        took = time.monotonic() - started
        processor = (processor_seconds(place.agent) - before) * 1000 / took
        found = {MADE: made, PROCESSOR: processor}
        if follower is not None:
            time.sleep(0.5)  # what waits is told, too
            told = follower.counts[EventKind.NEW if load == NEW else EventKind.REFUSED]
            found |= {TOLD: told / took, MISSED: follower.counts[LOST] / took}
    place.forget()
    yield from (((what, f"{load}, {setting}"), value) for what, value in found.items())


def explain_value(place: Place) -> Iterator[tuple[Key, float]]:
    """One answer, over the socket."""
    started = time.monotonic()
    place.scene.client.get("/v1/explain", **{"from": WEB, "to": API, "port": f"tcp/{PORTS[LATENCY]}"})
    yield (EXPLAINED, "two containers of one cell"), (time.monotonic() - started) * 1000


def _ways(place: Place, *, milliseconds: int) -> list[Callable[[], Iterator[tuple[Key, float]]]]:
    settings = (ALONE, FOLLOWED)
    return [
        partial(explain_value, place),
        *(partial(path_values, place, setting, milliseconds=milliseconds) for setting in settings),
        *(
            partial(load_values, place, load, setting, milliseconds=5 * milliseconds)
            for load in (NEW, REFUSALS)
            for setting in settings
        ),
    ]


def figures(place: Place, *, rounds: int, milliseconds: int) -> Iterator[Figure]:
    """All ways in turn, in another order each round."""
    ways = _ways(place, milliseconds=milliseconds)
    values: dict[Key, list[float]] = {}
    for _ in range(rounds):
        for way in random.sample(ways, len(ways)):
            for key, value in way():
                values.setdefault(key, []).append(value)
    units = {NAMES[what]: unit for what, unit in UNITS.items()} | OF_LOAD | {EXPLAINED: "ms"}
    for (what, setting), own in sorted(values.items(), key=lambda each: (list(units).index(each[0][0]), each[0][1])):
        alone = values.get((what, setting.replace(FOLLOWED, ALONE))) if FOLLOWED in setting else None
        beside = {ALONE: ratio(tuple(own), tuple(alone))} if alone and what in NAMES.values() else {}
        yield Figure(what, setting, units[what], tuple(own), beside)


def measured(*, rounds: int, milliseconds: int) -> tuple[Figure, ...]:
    """On a cell of its own; then the page, whose agent exists on paper alone."""
    with ready() as place:
        found = tuple(figures(place, rounds=rounds, milliseconds=milliseconds))
    return (*found, *page_figures(rounds=min(rounds, PAGES)))


@click.command()
@options(rounds=10, runs=1)
@click.option("--milliseconds", default=400, show_default=True, type=click.IntRange(1), help="Length of each measurement.")
def insight(*, rounds: int, runs: int, milliseconds: int, results: Path) -> None:
    """What it costs to follow what happens."""
    compared("insight", lambda: measured(rounds=rounds * runs, milliseconds=milliseconds), results=results)


if __name__ == "__main__":
    insight()
