"""`apps`: which apps there are and where they run, on all cells."""

from collections.abc import Iterator

import click

from agent.cli.app_names import APP, SPACE
from agent.cli.output import joined, json_option, print_json, table
from agent.client.answer import Fields
from agent.client.location import Location
from agent.model.names import Space
from agent.wording import natural

HEADS = ("APP", "INSTANCE", "CELL", "ADDRESS", "PORTS", "ROUTES", "READY")


@click.command()
@click.option("--space", type=SPACE, metavar="O/S", help="Only the apps of this space.")
@click.argument("app", type=APP, required=False)
@json_option
@click.pass_obj
def apps(location: Location, space: Space | None, app: str | None, as_json: bool) -> None:
    """List the apps of all cells with their instances: where each runs, and whether names lead to it (READY).

    An app that a policy or a route names is there, too, before it ever ran.
    """
    if space is not None and app is not None:
        raise click.UsageError("Give an app or --space, not both", click.get_current_context())
    query = {"app": app} if app is not None else {"space": str(space)} if space is not None else {}
    found = location.client().get("/v1/apps", **query)
    if as_json:
        print_json(found)
    else:
        ordered = sorted(found.each(), key=lambda each: natural(each.text("app")))
        click.echo(table(HEADS, [row for each in ordered for row in _rows(each)]))


def _rows(app: Fields) -> Iterator[tuple[str, ...]]:
    """One for each instance; without any the routes that lead to it nevertheless."""
    name, instances = app.text("app"), list(app.at("instances").each())
    if not instances:
        yield (name, "", "", "", "", joined(app.texts("routes")), "")
    for each in instances:
        yield (name, each.text("instance"), each.text("cell"), each.text("address"), *served(each))


def served(instance: Fields) -> tuple[str, str, str]:
    """Its ports, its routes, and whether names lead to it."""
    return joined(instance.texts("ports")), joined(instance.texts("routes")), "yes" if instance.flag("ready") else "no"
