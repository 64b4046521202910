"""How soon all cells act by a policy that one of them was given: through a real etcd, seen by connections between containers.

Live connections are cut between two other cells than the one that was given it.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from bench.loads.callers import first
from bench.loads.connection_end import watched
from bench.reports.figures import Bar, Series
from bench.script import Stopwatch, main, options, pause, repeat
from bench.stages import many_cells
from bench.stages.many_cells import ManyCells
from dataplane.firewall.backends.backends import Backend

IN, OUT = "policy allow on one cell", "policy delete on one cell"
ALL_CONNECT, ALL_REFUSE = f"{IN} -> connects on all", f"{OUT} -> refused on all"
OWN_CONNECTS, OWN_REFUSES = f"{IN} -> connects on that one", f"{OUT} -> refused on that one"
LAST, RESET, SENDING = (
    f"{OUT}, live between two others -> {seen}"
    for seen in ("last byte, server sends", "client's reset, server sends", "client's reset, client sends")
)
OFTEN = 0.0005  # seconds between two parts of what is sent over the live connection
BARS = dict.fromkeys((ALL_CONNECT, ALL_REFUSE, LAST, RESET, SENDING), Bar(p99=100))


def measure(place: ManyCells, watch: Stopwatch) -> None:
    """One round: in, out, and two live connections are cut."""
    own, *others = place.callers.until(True, place.allow)
    watch.add(OWN_CONNECTS, own)
    watch.add(ALL_CONNECT, max(own, *others))
    pause()
    own, *others = place.callers.until(False, place.delete)
    watch.add(OWN_REFUSES, own)
    watch.add(ALL_REFUSE, max(own, *others))
    for server_sends in (True, False):
        pause()
        place.callers.until(True, place.allow)
        pause()
        client, server = place.callers.dial()
        with client, server, first():
            end = watched(server if server_sends else client, client, place.delete, pause=OFTEN)
        if server_sends:
            watch.add(LAST, end.last_byte)
            watch.add(RESET, end.reset)
        else:
            watch.add(SENDING, end.reset)


def among(place: ManyCells, counts: tuple[int, ...], *, backend: str, rounds: int, runs: int) -> Iterator[Series]:
    """With each number of policies around."""
    before = 0
    for count in sorted(counts):
        place.surround(count, before=before)
        before = count
        watch = repeat(lambda watch: measure(place, watch), rounds=rounds, runs=runs)
        setting = f"{len(place.scenes)} cells, {count:,} policies around, {backend}"
        yield from (Series(what, setting, watch.of(what), BARS.get(what, Bar())) for what in watch.names())


def measured(backends: tuple[str, ...], counts: tuple[int, ...], *, cells: int, rounds: int, runs: int) -> Iterator[Series]:
    """With each backend."""
    for backend in backends:
        with many_cells.built(cells, f"firewall.backend={backend}") as place:
            yield from among(place, counts, backend=backend, rounds=rounds, runs=runs)


@click.command()
@options(rounds=40)
@click.option("--cells", default=3, show_default=True, type=click.IntRange(2, 20), help="How many there are.")
@click.option("--policies", default=(1000, 20000), show_default=True, multiple=True, help="For other apps; may be repeated.")
@click.option(
    "--backend", "backends", default=("nft",), show_default=True, multiple=True,
    type=click.Choice([each.value for each in Backend]), help="How rules are written; may be repeated.",
)  # fmt: skip
def spread(*, rounds: int, runs: int, cells: int, policies: tuple[int, ...], backends: tuple[str, ...], results: Path) -> None:
    """A policy's way from one cell to all."""
    main("spread", lambda: (tuple(measured(backends, policies, cells=cells, rounds=rounds, runs=runs)), {}), results=results)


if __name__ == "__main__":
    spread()
