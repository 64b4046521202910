"""`events`: what the agent of this cell did and saw."""

import json

import click

from agent.cli.errors import print_warnings
from agent.cli.output import json_option, moment, table
from agent.client.answer import Fields
from agent.client.location import Location

HEADS = ("AT", "AREA", "WHAT", "BY")
AREAS = ("agent", "attach", "cells", "certificates", "cuts", "policies", "problems", "repairs", "routes")


@click.command()
@click.option("--since", default="1d", show_default=True, metavar="SPAN", help="How far back: 30m, 1h, 7d.")
@click.option("--area", type=click.Choice(AREAS), help="Only what is about this.")
@click.option("--most", type=click.IntRange(1, 10_000), default=1_000, show_default=True, help="How many, the newest.")
@json_option
@click.pass_obj
def events(location: Location, since: str, area: str | None, most: int, as_json: bool) -> None:
    """Show what the agent of this cell did and saw: repairs, refused attaches, changes of policies and who made them,
    certificates, other cells that come and go, problems and their ends.

    It is kept over restarts, some megabytes of it. With --json each is a line.
    """
    from agent.config.texts import duration

    query = {"since": str(round(duration(since).total_seconds())), "most": str(most)}
    found = location.client().get("/v1/history", **query, **({} if area is None else {"area": area}))
    each = list(found.at("events").each())
    if as_json:
        for one in each:
            click.echo(json.dumps(one.value))
    else:
        click.echo(table(HEADS, list(map(_row, each))))
    print_warnings(_missing(found))


def _missing(found: Fields) -> tuple[str, ...]:
    """What is not shown."""
    damaged, lost = found.text("damaged"), found.text("lost")
    more = "there are older ones that are not shown: --most, or a shorter --since" if found.flag("more") else ""
    torn = f"{damaged} damaged lines of the history are left out" if damaged != "0" else ""
    gone = f"{lost} events were lost since the agent's start" if lost != "0" else ""
    return tuple(filter(None, (more, torn, gone)))


def _row(each: Fields) -> tuple[str, ...]:
    by = each.at("by")
    caller = "" if by.missing else f"uid {by.text('uid')}, {by.text('command') or '?'} (pid {by.text('pid')})"
    return (moment(each.text("at")), each.text("area"), each.text("what"), caller)
