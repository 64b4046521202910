"""How soon a revoke ends a live connection: from the change of the file to the last byte that the client sees."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import click

from bench.loads.connection_end import watched
from bench.loads.readers import asking
from bench.reports.figures import Bar, Series
from bench.script import Stopwatch, backends, looks, main, options, pause
from bench.stages.shop import API, WEB, Around, Shop, among

EDITED, VANISHED, DELETED = "file edited", "file vanished", "policy delete (API)"
READ = "policy delete (API), 63 connections of a reader ask for all policies"
LAST, RESET, SENDING = "last byte, server sends", "client's reset, server sends", "client's reset, client sends"
BELIEVED = 50  # milliseconds after which a file that has vanished is believed to be gone
BARS = {EDITED: Bar(20, 100), VANISHED: Bar(20 + BELIEVED, 100 + BELIEVED), DELETED: Bar(20, 100)}
Way = Callable[[], Callable[[], None]]  # what can be prepared is not measured


def measure(shop: Shop, watch: Stopwatch) -> None:
    """One round: six connections are cut, in every way and direction, and one beside readers."""
    for how, allow, revoke in (
        (EDITED, shop.opening, shop.closing),
        (VANISHED, shop.opening, lambda: shop.vanish),
        (DELETED, lambda: shop.allow, lambda: shop.delete),
    ):
        measure_both_directions(shop, watch, how, allow, revoke)
    measure_beside_readers(shop, watch)


def measure_streams(shop: Shop, watch: Stopwatch) -> None:
    """One round in strict mode: four streams, of a tunnel that lives on, since the caller keeps another right."""
    shop.settle(shop.scene.prepare_file("kept.yaml", f"policies: [{{from: {WEB}, to: {API}, tcp: [9000]}}]\n"))
    measure_both_directions(shop, watch, EDITED, shop.opening, shop.closing)
    measure_both_directions(shop, watch, DELETED, lambda: shop.allow, lambda: shop.delete)


def measure_both_directions(shop: Shop, watch: Stopwatch, how: str, allow: Way, revoke: Way) -> None:
    """Two connections, of which the server of the one and the client of the other keeps sending."""
    for server_sends in (True, False):
        shop.settle(allow())
        pause()
        client, server = shop.caller.dial()
        with client, server:
            end = watched(server if server_sends else client, client, revoke())
        if server_sends:
            watch.add(f"{how} -> {LAST}", end.last_byte)
            watch.add(f"{how} -> {RESET}", end.reset)
        else:
            watch.add(f"{how} -> {SENDING}", end.reset)


def measure_beside_readers(shop: Shop, watch: Stopwatch) -> None:
    """One more connection that is cut through the API, while a user keeps all that it may have busy with questions."""
    shop.settle(shop.allow)
    client, server = shop.caller.dial()
    with client, server, asking(shop.scene.client.path):
        pause()
        end = watched(server, client, shop.delete)
    watch.add(f"{READ} -> {LAST}", end.last_byte)


def _bar(what: str, around: Around) -> Bar:
    """Among many rules a connection is cut within the bound in which new ones are refused."""
    how = what.partition(" -> ")[0].partition(", ")[0]
    if around.few:
        return BARS[how]
    return Bar(p99=around.latest + (BELIEVED if how == VANISHED else 0))


@click.command()
@options(rounds=50)
@backends()
@looks()
@click.option("--rules", default=(1000, 20000), show_default=True, multiple=True, help="Rules for other apps; may be repeated.")
def revoke(*, rounds: int, runs: int, backends: tuple[str, ...], looks: float, rules: tuple[int, ...], results: Path) -> None:
    """Live connections that a policy's end cuts."""

    def found() -> tuple[tuple[Series, ...], Mapping[str, Series]]:
        ask = partial(among, rules=rules, rounds=rounds, runs=runs, looks=looks, bar=_bar)
        plain, floors = ask(backends, measure=measure)
        streams, more = ask(backends[:1], measure=measure_streams, strict=True)
        return plain + streams, {**floors, **more}

    main("revoke", found, results=results)


if __name__ == "__main__":
    revoke()
