"""`config`: what is in force and where it was written, whether a file is right, and taking it up without a restart."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.errors import FAILED, print_error, print_warning
from agent.cli.output import json_option, print_json
from agent.client.answer import Fields
from agent.client.location import Location
from agent.errors import Unavailable

if TYPE_CHECKING:
    from agent.config.config import Config


@click.group()
def config() -> None:
    """What is in force of agent.yaml, and whether a file is right."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def check(location: Location, file: Path | None, as_json: bool) -> int:
    """Check FILE, or the file that the agent reads: all mistakes with their places, and what a change of it would take.

    Compares it with what runs, if an agent does. Exit code 1 if the file is not right.
    """
    from agent.config.problems import InvalidSource
    from agent.config.written import NEED_EMPTY, all_values

    chosen = location if file is None else Location(root=location.root, config=file)
    try:
        found = chosen.load()
    except InvalidSource as error:
        if as_json:
            problems = [{"line": each.line or None, "column": each.column or None, "message": each.message, "hint": each.hint}
                        for each in error.problems]  # fmt: skip
            print_json({"ok": False, "problems": problems, "changes": None})
        else:
            print_error(error.what)
        return FAILED
    running = _running(location)
    differing = None if running is None else _changes(running, found, all_values(found))
    if as_json:
        print_json({"ok": True, "problems": [], "changes": differing})
        return 0
    click.echo(f"{chosen.config_file} is right" + ("" if chosen.config_file.exists() else ": it is not there"))
    if differing is None:
        click.echo("no agent runs that it could be compared with")
    elif not differing:
        click.echo("what runs is the same")
    for each in differing or ():
        how = "a reload takes it" if each["live"] else "needs a restart of the agent"
        if each["key"] in NEED_EMPTY:
            how = "needs a cell without containers (cellnet drain), then a restart of the agent"
        click.echo(f"  {each['key']}: {each['file']} instead of {each['running']}; {how}")
    return 0


def _running(location: Location) -> Fields | None:
    with suppress(Unavailable):
        return location.client().get("/v1/config")
    return None


def _changes(running: Fields, found: "Config", values: dict[str, str]) -> list[dict[str, str | bool]]:
    from agent.config.written import is_live

    before = {each.text("key"): each.text("value") for each in running.at("keys").each()}
    return [
        {"key": key, "running": before[key], "file": value, "live": is_live(key, before, values)}
        for key, value in values.items()
        if key in before and before[key] != value
    ]


@config.command()
@click.option("--origin", is_flag=True, help="Say behind each value where it was written.")
@json_option
@click.pass_obj
def show(location: Location, origin: bool, as_json: bool) -> None:
    """Print what the agent runs by, every key, in the form of an agent.yaml. Without an agent: what one would run by."""
    from agent.config.written import document

    found = _running(location)
    if found is None:
        found = _of_file(location)
        print_warning("no agent answers: this is what one would run by", hint="cellnet status")
    if as_json:
        print_json(found)
        return
    keys = list(found.at("keys").each())
    notes = {each.text("key"): each.text("origin") for each in keys} if origin else {}
    if origin:
        named = " (named by --config or CELLNET_CONFIG)" if location.config is not None else ""
        click.echo(f"# {found.text('file')}{named}")
    click.echo(document({each.text("key"): each.text("value") for each in keys}, notes), nl=False)
    for each in found.at("problems").each():
        print_warning(each.text("what"), hint=each.text("hint"))


def _of_file(location: Location) -> Fields:
    from agent.config.config import DEFAULT
    from agent.config.written import all_values

    loaded = location.load()
    keys = [
        {"key": key, "value": value, "origin": loaded.origins.get(key, DEFAULT)} for key, value in all_values(loaded).items()
    ]
    return Fields({"file": str(location.config_file), "keys": keys, "differing": [], "problems": []})


@config.command()
@json_option
@click.pass_obj
def reload(location: Location, as_json: bool) -> None:
    """Have the agent take up what can be taken of its agent.yaml without a restart; it says what cannot.

    A file with mistakes changes nothing. SIGHUP to the agent does the same.
    """
    done = location.client().post("/v1/config/reload", {})
    if as_json:
        print_json(done)
        return
    for each in done.at("taken").each():
        click.echo(f"{each.text('key')} is {each.text('file')}")
    for each in done.at("needs_restart").each():
        click.echo(f"{each.text('key')} is still {each.text('running')}: it needs a restart of the agent")
    if not (list(done.at("taken").each()) or list(done.at("needs_restart").each())):
        click.echo("nothing is otherwise")
