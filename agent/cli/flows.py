"""`flows`: what was denied, as it happens."""

import time
from collections.abc import Iterator

import click

from agent.cli.app_names import PARTY
from agent.cli.output import json_option, moment, table
from agent.client.answer import Fields
from agent.client.location import Location

POLL = 0.2  # seconds between two questions
HEADS = ("AT", "FROM", "TO", "PORT", "WHY")


@click.command()
@click.option("--denied", is_flag=True, required=True, help="What was refused or dropped, and why.")
@click.option("--follow", "-f", is_flag=True, help="Go on as it happens, until interrupted.")
@click.option("--app", type=PARTY, metavar="APP", help="Only what APP sent, or what was for it.")
@click.option("--to", type=PARTY, metavar="APP", help="Only what was for APP.")
@click.option("--port", metavar="PORT", help="Only this port, as tcp/8080.")
@json_option
@click.pass_obj
def flows(
    location: Location, denied: bool, follow: bool, app: str | None, to: str | None, port: str | None, as_json: bool
) -> None:
    """Show what this cell has denied lately: who was refused what, and why.

    A flood is shown in part: of each container some twenty a second. With --json each is a line.
    """
    del denied  # what is let through is not shown yet
    query = {name: given for name, given in (("app", app), ("to", to), ("port", port)) if given is not None}
    for found in _answers(location, query, follow=follow):
        each = list(found.at("denied").each())
        if as_json:
            import json

            for one in each:
                click.echo(json.dumps(one.value))
        elif follow:
            for one in each:
                click.echo("  ".join(_row(one)))
        else:
            click.echo(table(HEADS, list(map(_row, each))))


def _answers(location: Location, query: dict[str, str], *, follow: bool) -> Iterator[Fields]:
    """One, or one after the other, each with what is new. What was kept no longer when it was asked for is told."""
    client, after = location.client(), 0
    while True:
        found = client.get("/v1/denied", **query, after=str(after))
        number = int(found.text("number"))
        if number < after:  # another agent, which counts anew
            after = 0
            continue
        yield found
        if not follow:
            return
        after = number
        time.sleep(POLL)


def _row(each: Fields) -> tuple[str, ...]:
    port = f"/{each.text('port')}" if each.text("port") != "0" else ""
    why = f"{each.text('reason')} {each.text('words')}".rstrip()
    return (moment(each.text("at")), _end(each, "from"), _end(each, "to"), each.text("protocol") + port, why)


def _end(each: Fields, end: str) -> str:
    """An app with its address; the address alone where it is no app's."""
    name, address = each.text(end), each.text(f"{end}_address")
    return name if name == address else f"{name} ({address})"
