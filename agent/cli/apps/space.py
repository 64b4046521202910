"""`space`: the apps of a space, and those of a deployment that is to come."""

import click

from agent.cli.app_names import SPACE
from agent.cli.output import joined, json_option, print_json, table
from agent.client.answer import Fields
from agent.client.connection import quoted
from agent.client.location import Location
from agent.model.names import Space, lowered

HEADS = ("SPACE", "APPS", "DECLARED HERE")


@click.command()
@click.argument("space", type=SPACE, required=False, metavar="[O/S]")
@click.option("--apps", metavar="A,B,…", help="Declare these apps of the space, and no others; '' for none.")
@json_option
@click.pass_obj
def space(location: Location, space: Space | None, apps: str | None, as_json: bool) -> None:
    """List spaces with their apps, or declare the apps of one.

    A declared app counts wherever a policy opens its space, before it ever ran: in the environment of the others, and its first
    packet passes. It is declared on this cell, for all cells.
    """
    if apps is None:
        found = [each for each in location.client().get("/v1/spaces").each() if space in (None, _of(each))]
    elif space is None:
        raise click.UsageError("Name the space whose apps these are", click.get_current_context())
    else:
        names = [lowered(each.strip()) for each in apps.split(",") if each.strip()]
        address = f"/v1/spaces/{quoted(space.org)}/{quoted(space.space)}"
        found = [location.client().ask("PUT", address, {"apps": names}).fields]
    if as_json:
        print_json([each.value for each in found])
    else:
        rows = [(each.text("space"), joined(each.texts("apps")), joined(each.texts("declared"))) for each in found]
        click.echo(table(HEADS, rows))


def _of(found: Fields) -> Space:
    return Space.parse(found.text("space"))
