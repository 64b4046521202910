"""`route`: names below route domains, given to apps and taken from them in the store."""

from pathlib import Path

import click

from agent.cli.app_names import APP
from agent.cli.completion import route_names
from agent.cli.credentials import credentials_field, credentials_option
from agent.cli.errors import print_warnings
from agent.cli.output import joined, json_option, print_json, table
from agent.client.answer import Fields
from agent.client.connection import quoted
from agent.client.location import Location

HEADS = ("ROUTE", "SPACE", "APPS", "INSTANCES")


@click.group()
def route() -> None:
    """Names below a route domain (backend.apps.internal), which lead to all instances of the apps that they are mapped to."""


@route.command("list")
@json_option
@click.pass_obj
def list_routes(location: Location, as_json: bool) -> None:
    """List the routes of all cells, the apps that they are mapped to, and to how many instances they lead."""
    found = location.client().get("/v1/routes")
    if as_json:
        print_json(found)
    else:
        click.echo(table(HEADS, [_row(each) for each in found.each()]))


def _row(each: Fields) -> tuple[str, ...]:
    apps = "claimed at attach" if each.flag("claimed") else joined(each.texts("apps"))
    return each.text("host"), each.text("space"), apps, each.text("instances")


@route.command("map")
@click.argument("app", metavar="APP", type=APP)
@click.argument("host", shell_complete=route_names)
@credentials_option
@json_option
@click.pass_obj
def map_route(location: Location, app: str, host: str, credentials: Path | None, as_json: bool) -> None:
    """Have HOST lead to all instances of an app, beside other apps of its space; certificates follow without a restart.

    Claims of other spaces to HOST, and to what lies above and below it, end.
    """
    done = mapped(location, host, app, credentials)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{host} leads to {app}")


def mapped(location: Location, host: str, app: str, credentials: Path | None) -> Fields:
    """Have it mapped. What is probably mistyped is printed."""
    done = location.client().put(f"/v1/routes/{quoted(host)}", {"app": app, **credentials_field(credentials)})
    print_warnings(done.texts("notices"))
    return done


@route.command()
@click.argument("host", shell_complete=route_names)
@click.argument("app", metavar="[APP]", type=APP, required=False)
@credentials_option
@json_option
@click.pass_obj
def unmap(location: Location, host: str, app: str | None, credentials: Path | None, as_json: bool) -> None:
    """Take HOST from an app, or, without one, from the space that has it: then any space can have it."""
    done = unmapped(location, host, app, credentials)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{host} is free" if app is None else taken_from(app, host, done))


def unmapped(location: Location, host: str, app: str | None, credentials: Path | None) -> Fields:
    """Have it unmapped. What is probably mistyped is printed."""
    done = location.client().delete(f"/v1/routes/{quoted(host)}", {"app": app, **credentials_field(credentials)})
    print_warnings(done.texts("notices"))
    return done


def taken_from(app: str, host: str, done: Fields) -> str:
    """What has come of it."""
    return f"{host} {'no longer leads' if done.flag('unmapped') else 'did not lead'} to {app}"
