"""How soon a policy is enforced: from the rename of its file, or from the request, to the first connection from inside web.

Each round goes through all ways in and out, so that what the machine does meanwhile meets all of them alike.
"""

from functools import partial
from pathlib import Path

import click

from bench.loads.callers import milliseconds
from bench.reports.figures import Bar
from bench.script import Stopwatch, backends, looks, main, options, pause
from bench.stages.shop import Around, Shop, among

FILE_IN, FILE_OUT = "policy file renamed into place -> connects", "file without the policy renamed -> refused"
ALLOW, DELETE = "policy allow (API) -> returned, connects", "policy delete (API) -> returned, refused"


def measure(shop: Shop, watch: Stopwatch) -> None:
    """One round."""
    watch.add(FILE_IN, shop.caller.until_connects(shop.opening()))
    pause()
    watch.add(FILE_OUT, shop.caller.until_refused(shop.closing()))
    pause()
    watch.add(ALLOW, milliseconds(shop.allow))
    _check(shop, True)
    pause()
    watch.add(DELETE, milliseconds(shop.delete))
    _check(shop, False)


def _bar(what: str, around: Around) -> Bar:
    if what not in (FILE_IN, FILE_OUT):
        return Bar()
    return Bar(10, 50) if around.few else Bar(p99=around.latest)


def _check(shop: Shop, wanted: bool) -> None:
    if shop.caller.connects() is not wanted:
        raise click.ClickException("a policy command returned before its effect was there")


@click.command()
@options(rounds=100)
@backends()
@looks()
@click.option("--rules", default=(1000, 20000), show_default=True, multiple=True, help="Rules for other apps; may be repeated.")
def policy(*, rounds: int, runs: int, backends: tuple[str, ...], looks: float, rules: tuple[int, ...], results: Path) -> None:
    """Policy files and commands: how soon they are enforced."""
    found = partial(among, backends, rules, measure, rounds=rounds, runs=runs, looks=looks, bar=_bar)
    main("policy", found, results=results)


if __name__ == "__main__":
    policy()
