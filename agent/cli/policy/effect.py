"""`policy diff` and `policy matrix`: who may reach whom, and what a change would make of that."""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.app_names import APP
from agent.cli.errors import FAILED, print_warnings
from agent.cli.output import counted, joined, json_option, print_json, table
from agent.client.answer import Fields
from agent.client.connection import RequestBody
from agent.client.location import Location

if TYPE_CHECKING:
    from agent.cli.policy.file_check import Checked

dry_run_option = click.option("--dry-run", is_flag=True, help="Say what it would change, and change nothing.")
SIGNS = {"opens": ("+", "green"), "closes": ("-", "red")}


def proposed(location: Location, path: Path) -> RequestBody | None:
    """A file, or all files of a folder in place of the agent's, as `POST /v1/policies/diff` takes them. None where they have
    mistakes, which are shown.
    """
    from agent.cli.policy.file_check import check_file, host_facts

    facts, is_folder = host_facts(location), path.is_dir()
    checked = [check_file(each, facts=facts) for each in files_of(path)]
    for each in checked:
        show_problems(each)
    if not all(each.ok for each in checked):
        return None
    files = {called(each.path): each.content.decode(errors="surrogateescape") for each in checked}
    return {"files": files, "whole": is_folder}


def files_of(path: Path) -> list[Path]:
    """A file alone, or those of a folder that the agent would read."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.glob("*.yaml") if not each.name.startswith("."))


def show_problems(checked: "Checked") -> None:
    """A file's mistakes, each with its place."""
    for problem in checked.problems:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {problem}", err=True)


def called(path: Path) -> str:
    """Standard input, and a file of another name, is as if it were put beside the others."""
    return path.name if path.suffix == ".yaml" else f"{re.sub('[^A-Za-z0-9_-]', '-', path.name)}.yaml"


def ask(location: Location, proposal: RequestBody) -> Fields:
    """What the agent says of a proposal."""
    return location.client().post("/v1/policies/diff", proposal)


def show_effect(found: Fields, *, as_json: bool) -> None:
    """Policies that come and go, then pairs, each a line, what is cut; and what is odd, on standard error."""
    if as_json:
        print_json(found)
        return
    for name, sign in (("removed", "-"), ("added", "+")):
        for each in found.at(name).each():
            click.echo(f"{sign} policy {each.text('name')}")
    for name, (sign, colour) in SIGNS.items():
        for each in found.at(name).each():
            line = f"{sign} {each.text('from')} -> {each.text('to')}  {joined(each.texts('ports'))}{_mode(each)}"
            click.echo(click.style(line, fg=colour))
    if not any(_some(found.at(name)) for name in ("removed", "added")):
        click.echo("nothing changes")
    elif not any(_some(found.at(name)) for name in SIGNS):
        click.echo("nobody may reach more or less than before")
    _show_cuts(found.at("cuts"), closes=_some(found.at("closes")))
    if (more := found.text("more")) != "0":
        print_warnings([f"{counted(more, 'pair')} of apps besides were not compared"])
    print_warnings(found.texts("notices"))


def _show_cuts(cuts: Fields, *, closes: bool) -> None:
    """The live connections that would end, with a few of them."""
    if (count := cuts.text("count")) != "0":
        click.echo(click.style(f"cuts {counted(count, 'live connection')} of this cell:", fg="red"))
        for each in cuts.texts("lines"):
            click.echo(f"  {each}")
    if closes and (cells := cuts.text("other_cells")) != "0":
        click.echo(f"what it cuts on {counted(cells, 'other cell')} is not seen here")


def _mode(edge: Fields) -> str:
    return " (audit)" if edge.text("mode") else ""


def _some(found: Fields) -> bool:
    return next(iter(found.each()), None) is not None


@click.command()
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path, allow_dash=True))
@json_option
@click.pass_obj
def diff(location: Location, path: Path, as_json: bool) -> int:
    """Say what PATH would change, and change nothing: who may reach whom afterwards and not before.

    PATH is a file that would be put among this cell's, or in the place of the one of its name there; or a folder that would
    take the place of all of them. 'policy apply --dry-run' is the same for the store.
    """
    proposal = proposed(location, path)
    if proposal is None:
        return FAILED
    show_effect(ask(location, proposal), as_json=as_json)
    return 0


@click.command()
@click.option("--app", type=APP, metavar="APP", help="Only what this app may reach, and what may reach it.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "dot"]), default="table", show_default=True)
@json_option
@click.pass_obj
def matrix(location: Location, app: str | None, form: str, as_json: bool) -> None:
    """Print who may reach whom, app by app, as the policies in force say."""
    query = {} if app is None else {"app": app}
    found = location.client().get("/v1/policies/matrix", **query)
    if as_json:
        print_json(found)
        return
    rows = [
        (each.text("from"), each.text("to"), tuple(f"{port}{_mode(each)}" for port in each.texts("ports")))
        for each in found.each()
    ]
    match form:
        case "csv":
            click.echo(_csv(rows), nl=False)
        case "dot":
            click.echo(_dot(rows))
        case _:
            click.echo(table(("FROM", "TO", "PORTS"), [(source, to, joined(ports)) for source, to, ports in rows]))


def _csv(rows: Iterable[tuple[str, str, tuple[str, ...]]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("from", "to", "port"))
    writer.writerows((source, to, port) for source, to, ports in rows for port in ports)
    return text.getvalue()


def _dot(rows: Iterable[tuple[str, str, tuple[str, ...]]]) -> str:
    """A graph for Graphviz. Names hold no quotes."""
    edges = (f'  "{source}" -> "{to}" [label="{joined(ports)}"];' for source, to, ports in rows)
    return "\n".join(("digraph policies {", "  rankdir=LR;", *edges, "}"))
