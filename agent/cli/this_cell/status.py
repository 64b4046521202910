"""`status` and `sync`: how the cell is, on one screen, and waiting until it is as it should be."""

import sys
import time

import click

from agent.cli.errors import FAILED
from agent.cli.output import joined, json_option, print_json
from agent.cli.this_cell.screen import Terminal, screen
from agent.client.answer import Fields
from agent.client.connection import ANSWER_WITHIN, Client, Refused
from agent.client.location import Location
from agent.errors import Unavailable

POLL = 0.1


@click.command()
@click.option("--wait", type=click.FloatRange(min=0), default=0, metavar="S", help="Wait up to S seconds until all is well.")
@click.option("--all", "everything", is_flag=True, help="Show all problems, however long that is.")
@json_option
@click.pass_obj
def status(location: Location, wait: float, everything: bool, as_json: bool) -> int:
    """Show the cell on one screen. Exit code 1 if anything is wrong."""
    found = _when_well(location.client(), wait=wait)
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(screen(found, None if everything else _terminal())))
    return 0 if found.flag("ok") else FAILED


def _when_well(client: Client, *, wait: float) -> Fields:
    until = time.monotonic() + wait
    while True:
        try:
            found = client.get("/v1/status")
            if found.flag("ok") or time.monotonic() >= until:
                return found
        except Unavailable:
            if time.monotonic() >= until:
                raise
        time.sleep(POLL)


def _terminal() -> Terminal | None:
    """That of standard output, None if it goes somewhere else."""
    if not sys.stdout.isatty():
        return None
    import shutil  # slow to import

    size = shutil.get_terminal_size()
    return Terminal(size.columns, size.lines)


@click.command()
@click.option(
    "--timeout", type=click.FloatRange(0, 300), default=10, show_default=True, metavar="S", help="Wait up to S seconds."
)
@json_option
@click.pass_obj
def sync(location: Location, timeout: float, as_json: bool) -> int:
    """Return when everything known now, on disk and in the store, is enforced."""
    done = location.client().post("/v1/sync", {"timeout": timeout}, within=ANSWER_WITHIN + timeout)
    if as_json:
        print_json(done)
    elif not done.flag("ok"):
        raise Refused(f"not all is enforced: {joined(done.texts('missing'))}", hint="see 'cellnet status'")
    return 0 if done.flag("ok") else FAILED
