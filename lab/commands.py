"""`cellnet lab …`: a cell on this machine to try things in, and the demo. The machine's own network takes no part."""

import os

import click

from agent.cli.child import NOT_EXECUTABLE, NOT_FOUND, execute
from agent.cli.failures import complain
from agent.cli.output import json_option, print_json
from agent.cli.place import need_root
from agent.errors import HostRefused
from dataplane import namespace
from lab import children, claims, signals
from lab.cell import Cell, Part
from lab.claims import BASE

NUMBER = click.argument("number", metavar="CELL", type=click.IntRange(1, 1))


@click.group()
def lab() -> None:
    """A cell in a network namespace of its own, to try things in. This machine's own network takes no part."""


def _cell(number: int) -> Cell:
    return Cell(BASE / str(number), number=number)


def _standing(number: int, *, command: str) -> Cell:
    """A cell that is up. Raises HostRefused otherwise, or if we are not root."""
    need_root(f"cellnet lab {command}")
    cell = _cell(number)
    if not namespace.is_pin(cell.netns):
        raise HostRefused(f"the lab's cell {number} is not up", hint="cellnet lab up")
    return cell


@lab.command()
@click.option(
    "--config", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key of agent.yaml, e.g. tls.leaf_lifetime=1m."
)
@json_option
def up(overrides: tuple[str, ...], as_json: bool) -> None:
    """Bring cell 1 up, with an agent and an Envoy; returns when its status is well."""
    need_root("cellnet lab up")
    with signals.ending_in_order():
        with claims.only_one(BASE):
            claims.remove_leftovers(BASE)
            cell = _cell(1)
            claims.claim(cell)
        try:
            cell.make(overrides)
            cell.start()
            subnet = cell.wait_well().at("cell").text("subnet")
            supervisor = cell.part(Part.UP)
            if supervisor is None:
                raise HostRefused(f"'cellnet up' has ended:\n{cell.last_words()}", hint="see the messages above")
            claims.hold(cell, supervisor)
        except BaseException:
            claims.give_up(cell)
            raise
    if as_json:
        print_json({"cell": 1, "root": str(cell.root), "netns": str(cell.netns), "subnet": subnet, "pid": supervisor.pid})
    else:
        click.echo(f"cell 1 is up with {subnet}, its files are below {cell.root}")
        click.echo("  cellnet lab exec 1 -- cellnet status   talks to its agent; so does every cellnet in: lab exec 1 -- bash")


@lab.command(context_settings={"allow_interspersed_args": False})
@NUMBER
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def exec(number: int, command: tuple[str, ...]) -> int:  # noqa: A001 -- the word that users type
    """Run CMD in a cell's namespace, where 'cellnet' talks to the cell's agent."""
    command = command[1:] if command[0] == "--" else command  # click leaves it there behind CELL
    if not command:
        raise click.UsageError("Missing CMD", click.get_current_context())
    cell = _standing(number, command="exec")
    namespace.enter(cell.netns)
    os.environ.pop("CELLNET_CONFIG", None)
    os.environ.update(children.environment(cell.root))
    try:
        execute(command, {})
    except FileNotFoundError:
        complain(f"cannot run {command[0]}: no such command")
        return NOT_FOUND
    except OSError as error:
        complain(f"cannot run {command[0]}: {error.strerror}")
    return NOT_EXECUTABLE


@lab.command()
@NUMBER
@json_option
def kill(number: int, as_json: bool) -> None:
    """Kill a cell's agent with SIGKILL. It stays dead until 'lab start'; traffic goes on as it was allowed."""
    killed = _standing(number, command="kill").kill(Part.AGENT)
    if as_json:
        print_json({"cell": number, "killed": killed.pid})
    else:
        click.echo(f"the agent of cell {number} (process {killed.pid}) is dead; 'cellnet lab start {number}' starts it again")


@lab.command()
@NUMBER
@json_option
def start(number: int, as_json: bool) -> None:
    """Start what was killed of a cell, and return when its status is well."""
    cell = _standing(number, command="start")
    cell.start()
    found = cell.wait_well()
    supervisor = cell.part(Part.UP)
    if supervisor is not None:
        claims.hold(cell, supervisor)
    if as_json:
        print_json({"cell": number, "agent": int(found.at("cell").text("pid"))})
    else:
        click.echo(f"the agent of cell {number} runs (process {found.at('cell').text('pid')})")


@lab.command()
@json_option
def down(as_json: bool) -> None:
    """Remove the lab's cell with all that runs in it, and what a killed lab or demo has left."""
    need_root("cellnet lab down")
    with signals.held(), claims.only_one(BASE):
        removed = list(claims.remove_leftovers(BASE))
        cell = _cell(1)
        if cell.root.exists():
            cell.remove()
            removed.append(cell)
    if not removed:
        raise HostRefused("the lab is not up", hint="cellnet lab up")
    if as_json:
        print_json({"removed": [str(each.root) for each in removed]})
    else:
        click.echo(f"removed {', '.join(str(each.root) for each in removed)}")


@lab.command()
def demo() -> int:
    """Show what cellnet does, step by step, in a cell that is gone afterwards. Exit code 0 if every answer was as expected."""
    need_root("cellnet lab demo")
    from lab.demo import run_demo

    with signals.ending_in_order(), claims.short_lived(BASE, name="demo") as cell:
        return run_demo(cell)
