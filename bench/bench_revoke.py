"""How soon a revoke ends a live connection: from the change of the file to the last byte that the client sees."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from bench.connection_end import watched
from bench.figures import Bar
from bench.readers import asking
from bench.script import Stopwatch, backends, looks, main, options, pause
from bench.shop import Around, Shop, among

EDITED, VANISHED, DELETED = "file edited", "file vanished", "policy delete (API)"
READ = "policy delete (API), 63 connections of a reader ask for all policies"
LAST, RESET, SENDING = "last byte, server sends", "client's reset, server sends", "client's reset, client sends"
BELIEVED = 50  # milliseconds after which a file that has vanished is believed to be gone
BARS = {EDITED: Bar(20, 100), VANISHED: Bar(20 + BELIEVED, 100 + BELIEVED), DELETED: Bar(20, 100)}
Way = Callable[[], Callable[[], None]]  # what can be prepared is not measured


def measure(shop: Shop, watch: Stopwatch) -> None:
    """One round: six connections are cut, in every way and direction."""
    ways: tuple[tuple[str, Way, Way], ...] = (
        (EDITED, shop.opening, shop.closing),
        (VANISHED, shop.opening, lambda: shop.vanish),
        (DELETED, lambda: shop.allow, lambda: shop.delete),
    )
    for how, allow, revoke in ways:
        for server_sends in (True, False):
            shop.caller.until_connects(allow())
            pause()
            client, server = shop.caller.dial()
            with client, server:
                end = watched(server if server_sends else client, client, revoke())
            if server_sends:
                watch.add(f"{how} -> {LAST}", end.last_byte)
                watch.add(f"{how} -> {RESET}", end.reset)
            else:
                watch.add(f"{how} -> {SENDING}", end.reset)
    measure_beside_readers(shop, watch)


def measure_beside_readers(shop: Shop, watch: Stopwatch) -> None:
    """One more connection that is cut through the API, while a user keeps all that it may have busy with questions."""
    shop.caller.until_connects(shop.allow)
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
    found = partial(among, backends, rules, measure, rounds=rounds, runs=runs, looks=looks, bar=_bar)
    main("revoke", found, results=results)


if __name__ == "__main__":
    revoke()
