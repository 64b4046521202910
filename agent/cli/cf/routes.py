"""`map-route`, `unmap-route`: what `route map` and `unmap` do, in cf's words. A route is a name; it has no path and no port."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from agent.cli.app_names import APP
from agent.cli.apps.route import mapped, taken_from, unmapped
from agent.cli.completion import domain_names, host_names
from agent.cli.credentials import credentials_option
from agent.cli.output import json_option, print_json
from agent.client.location import Location
from agent.model.names import lowered

Command = TypeVar("Command", bound=Callable[..., object])


def _route_options(command: Command) -> Command:
    """APP, DOMAIN and HOST, and what every command has that changes the store."""
    help_of_host = "What stands before DOMAIN. [default: nothing, DOMAIN is the whole name]"
    options = (
        click.argument("app", metavar="APP", type=APP),
        click.argument("domain", metavar="DOMAIN", shell_complete=domain_names),
        click.option("-n", "--hostname", metavar="HOST", shell_complete=host_names, help=help_of_host),
        credentials_option,
        json_option,
        click.pass_obj,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("map-route")
@_route_options
def map_route(
    location: Location, app: str, domain: str, hostname: str | None, credentials: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Have HOST.DOMAIN lead to all instances of APP, as 'route map' does."""
    host = _host(domain, hostname)
    done = mapped(location, host, app, credentials)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{host} leads to {app}\nOK")


@click.command("unmap-route")
@_route_options
def unmap_route(
    location: Location, app: str, domain: str, hostname: str | None, credentials: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Take HOST.DOMAIN from APP, as 'route unmap' does.

    The name stays its space's, until 'cellnet route unmap HOST.DOMAIN' frees it.
    """
    host = _host(domain, hostname)
    done = unmapped(location, host, app, credentials)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{taken_from(app, host, done)}\nOK")


def _host(domain: str, hostname: str | None) -> str:
    """Names of DNS are the same in either case, and routes are written in lower case."""
    return lowered(domain if hostname is None else f"{hostname}.{domain}")
