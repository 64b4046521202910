"""`cellnet lab …`: cells on this machine to try things in, and the demos. The machine's own network takes no part."""

import os

import click

from agent.cli.containers.command import execute_or_say
from agent.cli.output import json_option, print_json
from agent.client.answer import Fields
from agent.client.location import need_root
from agent.errors import HostRefused, NotFound
from host import namespace
from lab import children, folders, signals
from lab.cell import Cell, Part
from lab.cells import Lab
from lab.folders import BASE
from lab.segment import CELLS, Segment

NUMBER = click.argument("number", metavar="CELL", type=click.IntRange(1, CELLS))
NOT_UP, BRING_UP = "the lab is not up", "cellnet lab up"


@click.group()
def lab() -> None:
    """Cells in network namespaces of their own, to try things in. This machine's own network takes no part."""


def _standing(*, command: str) -> Lab:
    """The lab that is up. Raises HostRefused otherwise, or if we are not root."""
    need_root(f"cellnet lab {command}")
    if not BASE.exists():
        raise HostRefused(NOT_UP, hint=BRING_UP)
    return Lab.standing(BASE)


def _cell(number: int, *, command: str) -> Cell:
    """A cell of the lab that is up. Raises HostRefused or NotFound if there is none of this number."""
    cells = {each.number: each for each in _standing(command=command).cells}
    if not cells:
        raise HostRefused(NOT_UP, hint=BRING_UP)
    if number not in cells:
        there = f"cells 1 to {max(cells)}" if len(cells) > 1 else "cell 1 alone"
        raise NotFound(f"the lab has no cell {number}", hint=f"it has {there}")
    if not namespace.is_pin(cells[number].netns):
        raise HostRefused(f"the lab's cell {number} is not up", hint="'cellnet lab down', then 'cellnet lab up'")
    return cells[number]


@lab.command()
@click.option("--cells", type=click.IntRange(1, CELLS), help="So many cells that share an etcd; without it, one with SQLite.")
@click.option(
    "--config", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key of agent.yaml, e.g. tls.leaf_lifetime=1m."
)
@json_option
def up(cells: int | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Bring cells up, each with an agent, Envoy and DNS; returns when every one's status is well."""
    need_root("cellnet lab up")
    made = Lab.alone(BASE) if cells is None else Lab.planned(BASE, cells=cells)
    with signals.ending_in_order():
        with folders.only_one(BASE):
            folders.remove_leftovers(BASE)
            folders.claim(*made.folders)
        try:
            made.make(overrides)
            made.start()
            found = made.wait_well()
            pids = [_held(cell) for cell in made.cells]
            if made.segment and (etcd := made.segment.etcd.process):
                folders.hold(made.segment.root, etcd)
        except BaseException:
            folders.give_up(BASE, *made.folders)
            raise
    _print_up(made, found, pids, as_json=as_json)


def _held(cell: Cell) -> int:
    """Make the cell's `cellnet up` the holder of its folder; returns its pid."""
    supervisor = cell.part(Part.UP)
    if supervisor is None:
        raise HostRefused(f"'cellnet up' has ended:\n{cell.last_words()}", hint="see the messages above")
    folders.hold(cell.root, supervisor)
    return supervisor.pid


def _print_up(made: Lab, found: tuple[Fields, ...], pids: list[int], *, as_json: bool) -> None:
    subnets = [each.at("cell").text("subnet") for each in found]
    rows = [
        {"cell": cell.number, "root": str(cell.root), "netns": str(cell.netns), "subnet": subnet, "pid": pid}
        for cell, subnet, pid in zip(made.cells, subnets, pids, strict=True)
    ]
    if as_json:
        print_json({"cells": rows, "etcd": made.segment.etcd.url} if made.segment else rows[0])
        return
    for cell, subnet in zip(made.cells, subnets, strict=True):
        click.echo(f"cell {cell.number} is up with {subnet}, its files are below {cell.root}")
    if made.segment:
        click.echo(f"their etcd answers at {made.segment.etcd.url}")
    click.echo("  cellnet lab exec 1 -- cellnet status   talks to its agent; so does every cellnet in: lab exec 1 -- bash")


@lab.command(context_settings={"allow_interspersed_args": False})
@NUMBER
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def exec(number: int, command: tuple[str, ...]) -> int:  # noqa: A001 -- the word that users type
    """Run CMD in a cell's namespace, where 'cellnet' talks to the cell's agent."""
    command = command[1:] if command[0] == "--" else command  # click leaves it there behind CELL
    if not command:
        raise click.UsageError("Missing CMD", click.get_current_context())
    cell = _cell(number, command="exec")
    namespace.enter(cell.netns)
    environment = children.environment(cell.root)
    os.environ.clear()
    os.environ.update(environment)
    return execute_or_say(command, {})


@lab.command()
@NUMBER
@click.option("--part", type=click.Choice([each.value for each in Part]), default=Part.AGENT.value, show_default=True)
@json_option
def kill(number: int, part: str, as_json: bool) -> None:
    """Kill a part of a cell with SIGKILL. It stays dead until 'lab start'; traffic goes on as it was allowed."""
    killed = _cell(number, command="kill").kill(Part(part))
    if as_json:
        print_json({"cell": number, "part": part, "killed": killed.pid})
    else:
        click.echo(f"the {part} of cell {number} (process {killed.pid}) is dead; 'cellnet lab start {number}' starts it again")


@lab.command()
@NUMBER
@json_option
def start(number: int, as_json: bool) -> None:
    """Start what was killed of a cell, and return when its status is well."""
    cell = _cell(number, command="start")
    cell.start()
    found = cell.wait_well()
    _held(cell)
    if as_json:
        print_json({"cell": number, "agent": int(found.at("cell").text("pid"))})
    else:
        click.echo(f"the agent of cell {number} runs (process {found.at('cell').text('pid')})")


@lab.command()
@NUMBER
@json_option
def partition(number: int, as_json: bool) -> None:
    """Pull a cell's cable: its port on the switch goes down, so that it reaches neither other cells nor etcd."""
    _cell(number, command="partition").unplug()
    if as_json:
        print_json({"cell": number, "plugged": False})
    else:
        click.echo(
            f"cell {number} is cut from the other cells and from etcd; 'cellnet lab heal {number}' puts its port up again"
        )


@lab.command()
@NUMBER
@json_option
def heal(number: int, as_json: bool) -> None:
    """Put a cell's cable in again."""
    _cell(number, command="heal").plug()
    if as_json:
        print_json({"cell": number, "plugged": True})
    else:
        click.echo(f"the port of cell {number} is up")


@lab.group()
def etcd() -> None:
    """The store that the cells of a lab share."""


def _segment(command: str) -> Segment:
    """The segment of the lab that is up. Raises HostRefused if its cell is alone."""
    segment = _standing(command=f"etcd {command}").segment
    if segment is None or not namespace.is_pin(segment.netns):
        raise HostRefused("the lab has no etcd", hint="cellnet lab up --cells 3")
    return segment


@etcd.command("stop")
@json_option
def stop_etcd(as_json: bool) -> None:
    """Kill etcd with SIGKILL. Traffic goes on as it was allowed; policies in the store cannot be changed."""
    _segment("stop").etcd.kill()
    if as_json:
        print_json({"etcd": None})
    else:
        click.echo("etcd is dead; 'cellnet lab etcd start' starts it again, with all that was in it")


@etcd.command("start")
@json_option
def start_etcd(as_json: bool) -> None:
    """Start etcd with the data that it had; returns when it answers."""
    segment = _segment("start")
    segment.etcd.start()
    if process := segment.etcd.process:
        folders.hold(segment.root, process)
    if as_json:
        print_json({"etcd": segment.etcd.url})
    else:
        click.echo(f"etcd answers at {segment.etcd.url}")


@lab.command()
@json_option
def down(as_json: bool) -> None:
    """Remove the lab's cells with all that runs in them, and what a killed lab or demo has left."""
    need_root("cellnet lab down")
    with signals.held(), folders.only_one(BASE):
        removed = [*folders.remove_leftovers(BASE), *(standing := Lab.standing(BASE).folders)]
        folders.remove(*standing)
    if not removed:
        raise HostRefused(NOT_UP, hint=BRING_UP)
    if as_json:
        print_json({"removed": [str(each) for each in removed]})
    else:
        click.echo(f"removed {', '.join(map(str, removed))}")


@lab.command()
@click.option(
    "--cells", type=click.Choice(["1", "3"]), default="3", show_default=True, help="1: the main job, on a cell of its own."
)
def demo(cells: str) -> int:
    """Show what cellnet does, step by step, in cells that are gone afterwards. Exit code 0 if every answer was as expected."""
    need_root("cellnet lab demo")
    from lab.demo.steps import run_demo

    with signals.ending_in_order(), folders.short_lived(BASE, name="demo") as folder:
        return run_demo(Lab((Cell(folder),)) if cells == "1" else Lab.planned(folder, cells=3))
