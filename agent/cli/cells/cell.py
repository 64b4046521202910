"""`cell`: the cells that share this one's store."""

from pathlib import Path

import click

from agent.cli.completion import cell_names
from agent.cli.credentials import credentials_field, credentials_option
from agent.cli.output import json_option, moment, print_json, table
from agent.client.answer import Fields
from agent.client.connection import quoted
from agent.client.location import Location

HEADS = ("NAME", "UNDERLAY", "SUBNET", "ALIVE SINCE", "VERSION", "MTLS", "")


@click.group()
def cell() -> None:
    """The cells that share this one's store."""


@cell.command("list")
@json_option
@click.pass_obj
def list_cells(location: Location, as_json: bool) -> None:
    """List all cells, this one too. One without a time gives no sign: its agent does not run, or cannot reach the store."""
    found = location.client().get("/v1/cells")
    if as_json:
        print_json(found)
    else:
        click.echo(table(HEADS, [_row(each) for each in found.each()]))


def _row(each: Fields) -> tuple[str, ...]:
    facts = (each.text("name"), each.text("underlay"), each.text("subnet"))
    marks = [word for name, word in (("here", "this cell"), ("drained", "drained")) if each.flag(name)]
    return (*facts, moment(each.text("alive_since")), each.text("version"), each.text("mtls"), ", ".join(marks) or " ")


@cell.command()
@click.argument("name", shell_complete=cell_names)
@credentials_option
@json_option
@click.pass_obj
def remove(location: Location, name: str, credentials: Path | None, as_json: bool) -> None:
    """Forget a cell that is gone for good: the others stop routing to it, and its part of the overlay is free after a week.

    A cell that is alive cannot be removed: stop its agent first.
    """
    done = location.client().delete(f"/v1/cells/{quoted(name)}", credentials_field(credentials))
    if as_json:
        print_json(done)
    else:
        click.echo(f"removed {name}")
