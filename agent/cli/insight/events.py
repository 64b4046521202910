"""`events`: what the agent of this cell did and saw."""

from collections.abc import Callable, Sequence

import click

from agent.cli.errors import print_warnings
from agent.cli.output import joined, json_option, moment, print_json_lines, table
from agent.client.answer import Fields
from agent.client.location import Location

HEADS = ("AT", "AREA", "WHAT", "BY")
STORE_HEADS = ("AT", "WHAT", "BY", "CELL")
AREAS = ("agent", "attach", "cells", "certificates", "cuts", "policies", "problems", "repairs", "routes")


@click.command()
@click.option("--since", default="1d", show_default=True, metavar="SPAN", help="How far back: 30m, 1h, 7d.")
@click.option("--area", type=click.Choice(AREAS), help="Only what is about this.")
@click.option("--most", type=click.IntRange(1, 10_000), default=1_000, show_default=True, help="How many, the newest.")
@click.option("--store", is_flag=True, help="Who changed which policies of the store, on whatever cell: the last 200.")
@json_option
@click.pass_obj
def events(location: Location, since: str, area: str | None, most: int, store: bool, as_json: bool) -> None:
    """Show what the agent of this cell did and saw: repairs, refused attaches, changes of policies and who made them,
    certificates, other cells that come and go, problems and their ends.

    It is kept over restarts, some megabytes of it. With --json each is a line.
    """
    if store:
        _print(list(location.client().get("/v1/policies/changes").each()), STORE_HEADS, _store_row, as_json=as_json)
        return
    from agent.config.texts import duration

    query = {"since": str(round(duration(since).total_seconds())), "most": str(most)}
    found = location.client().get("/v1/history", **query, **({} if area is None else {"area": area}))
    _print(list(found.at("events").each()), HEADS, _row, as_json=as_json)
    print_warnings(_missing(found))


def _print(each: Sequence[Fields], heads: Sequence[str], row: Callable[[Fields], tuple[str, ...]], *, as_json: bool) -> None:
    if as_json:
        print_json_lines(each)
    else:
        click.echo(table(heads, list(map(row, each))))


def _missing(found: Fields) -> tuple[str, ...]:
    """What is not shown."""
    damaged, lost = found.text("damaged"), found.text("lost")
    more = "there are older ones that are not shown: --most, or a shorter --since" if found.flag("more") else ""
    torn = f"{damaged} damaged lines of the history are left out" if damaged != "0" else ""
    gone = f"{lost} events were lost since the agent's start" if lost != "0" else ""
    return tuple(filter(None, (more, torn, gone)))


def _row(each: Fields) -> tuple[str, ...]:
    by = each.at("by")
    return (moment(each.text("at")), each.text("area"), each.text("what"), "" if by.missing else _caller(by))


def _store_row(each: Fields) -> tuple[str, ...]:
    more = f" and {each.text('more')} more" if each.text("more") != "0" else ""
    user = f", as {each.text('user')}" if each.text("user") else ""
    what = f"{each.text('done')} {joined(each.texts('names'))}{more}"
    return (moment(each.text("at")), what, _caller(each) + user, each.text("cell"))


def _caller(by: Fields) -> str:
    return f"uid {by.text('uid')}, {by.text('command') or '?'} (pid {by.text('pid')})"
