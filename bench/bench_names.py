"""How soon names lead to an instance that was attached, on its own cell and on the others, through a real etcd.

From the answer to the attach to the first answer of each cell's dnsmasq that has the address; and from the request for the
detach to the first that has it no more.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import click

from agent.client.connection import RequestBody, attachment_address
from agent.errors import Unavailable
from bench.loads.callers import PATIENCE, PAUSE, first
from bench.reports.figures import Bar, Series
from bench.script import Stopwatch, main, options, pause, repeat
from bench.stages.named_crowd import fill_with_names
from bench.stages.scene import Scene, joined
from dataplane.dns.probe import is_answer, question
from host.namespace import run_in

RESOLVER = ("169.254.0.2", 53)
COMES, GOES = "attached -> its name answers", "detach -> its name answers no more"
OWN, OTHER = "on its cell", "on another cell"
BARS = {(COMES, OWN): Bar(p99=50), (COMES, OTHER): Bar(p99=200)}
ANSWERS_OF = 6  # where a message says how many records it has
APP = "acme/shop/single"


class NameWatch:
    """Asks a cell's dnsmasq again and again, from the cell itself."""

    def __init__(self, scene: Scene) -> None:
        self._socket = run_in(scene.cell.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.connect(RESOLVER)
        self._socket.settimeout(1.0)
        self._numbers = count(1)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def until(self, name: str, *, is_there: bool) -> float:
        """The moment, on the clock that never jumps, at which the name has an address, or none. Raises Unavailable."""
        until = time.monotonic() + PATIENCE
        with first():
            while self._has_address(name) is not is_there:
                if time.monotonic() > until:
                    raise Unavailable(f"{name} has not changed after {PATIENCE:g} s", hint="see the cell's log")
                time.sleep(PAUSE)
        return time.monotonic()

    def _has_address(self, name: str) -> bool | None:
        number = next(self._numbers) % 0x10000
        with contextlib.suppress(OSError):
            self._socket.send(question(name, number=number))
            found = self._socket.recv(512)
            if is_answer(found, number=number):
                return found[ANSWERS_OF : ANSWERS_OF + 2] != b"\0\0"
        return None


class Names:
    """The cells, the first of which is where instances come and go; each round has a name of its own."""

    def __init__(self, scenes: tuple[Scene, ...], watches: tuple[NameWatch, ...]) -> None:
        self._scenes = scenes
        self._watches = watches
        self._numbers = count()

    def measure(self, watch: Stopwatch) -> None:
        """One round."""
        number = next(self._numbers)
        name, here = f"single-{number}", self._scenes[0]
        body: RequestBody = {"app": f"{APP}-{number}", "netns": str(here.namespace(name))}
        dns_name = f"single-{number}.shop.acme.cell.internal"

        def attach() -> float:
            here.client.ask("PUT", attachment_address(name), body)
            return time.monotonic()

        def detach() -> float:
            begun = time.monotonic()
            here.detach(name)
            return begun

        self._follow(COMES, attach, dns_name, is_there=True, watch=watch)
        pause()
        self._follow(GOES, detach, dns_name, is_there=False, watch=watch)

    def _follow(self, what: str, change: Callable[[], float], name: str, *, is_there: bool, watch: Stopwatch) -> None:
        ready = threading.Barrier(len(self._watches) + 1)

        def until(each: NameWatch) -> float:
            ready.wait()
            return each.until(name, is_there=is_there)

        with ThreadPoolExecutor(len(self._watches)) as pool:
            moments = [pool.submit(until, each) for each in self._watches]
            ready.wait()
            began = change()
            for number, each in enumerate(moments):
                watch.add(f"{what} {OTHER if number else OWN}", max(each.result() - began, 0.0) * 1000)


@contextlib.contextmanager
def watched(scenes: tuple[Scene, ...]) -> Iterator[Names]:
    """With a watch on each cell."""
    watches = tuple(map(NameWatch, scenes))
    try:
        yield Names(scenes, watches)
    finally:
        for each in watches:
            each.close()


def among(scenes: tuple[Scene, ...], *, rounds: int, runs: int, around: int) -> Iterator[Series]:
    """With so many instances around."""
    with watched(scenes) as names:
        found = repeat(names.measure, rounds=rounds, runs=runs)
    setting = f"{len(scenes)} cells, {around:,} instances around"
    for what, where in ((what, where) for what in (COMES, GOES) for where in (OWN, OTHER)):
        yield Series(f"{what} {where}", setting, found.of(f"{what} {where}"), BARS.get((what, where), Bar()))


def measured(attached: tuple[int, ...], *, cells: int, rounds: int, runs: int) -> Iterator[Series]:
    """With each number of instances on every cell."""
    with joined(cells) as (_, scenes):
        there = 0
        for wanted in sorted(attached):
            for each in scenes:
                fill_with_names(each, wanted, first=there)
            there = wanted
            yield from among(scenes, rounds=rounds, runs=runs, around=wanted * cells)


@click.command()
@options(rounds=40)
@click.option("--cells", default=3, show_default=True, type=click.IntRange(2, 20), help="How many there are.")
@click.option("--attached", default=(1, 50), show_default=True, multiple=True, help="Instances on each cell; may be repeated.")
def names(*, rounds: int, runs: int, cells: int, attached: tuple[int, ...], results: Path) -> None:
    """From an attach to its name on all cells."""
    main("names", lambda: (tuple(measured(attached, cells=cells, rounds=rounds, runs=runs)), {}), results=results)


if __name__ == "__main__":
    names()
