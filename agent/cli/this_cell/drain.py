"""`drain`: before maintenance, names stop leading to what runs here, its connections end, and it is detached."""

import time

import click

from agent.cli.completion import attachment_names
from agent.cli.containers.named import name_of
from agent.cli.errors import print_error
from agent.cli.output import counted, json_option, print_json
from agent.client.answer import Fields
from agent.client.connection import Client
from agent.client.location import Location
from agent.errors import InvalidInput

POLL = 0.2
DAY = 86_400


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=attachment_names)
@click.option(
    "--timeout",
    type=click.FloatRange(0, DAY),
    default=60,
    show_default=True,
    metavar="S",
    help="Cut what is still open after S seconds.",
)
@click.option("--undo", is_flag=True, help="Attach again, and keep what is not detached yet.")
@json_option
@click.pass_obj
def drain(location: Location, names: tuple[str, ...], timeout: float, undo: bool, as_json: bool) -> None:
    """Detach in order what runs here, or the attachments NAME alone, before maintenance.

    DNS stops naming them at once, on all cells, and their published ports refuse new calls; their TCP connections have time to
    end, and flows of UDP to fall silent for five seconds; then they are detached. Without a NAME
    the whole cell is drained, and refuses to attach anything until 'cellnet drain --undo', over restarts and reboots.

    A connection that an app keeps open without using it takes the whole time. Interrupting this command stops nothing.
    """
    client = location.client()
    if undo:
        if names:
            raise InvalidInput("--undo takes back all that is being drained", hint="cellnet drain --undo")
        undone = client.delete("/v1/drain")
        if as_json:
            print_json(undone)
        elif not undone.flag("undone"):
            click.echo("nothing was being drained")
        return
    names = tuple(name_of(client, each) for each in names)
    found = client.post("/v1/drain", {"names": list(names), "timeout": timeout})
    try:
        found = _when_done(client, found, quiet=as_json, names=names)
    except KeyboardInterrupt:
        print_error("not all is drained yet", hint="it goes on: see 'cellnet status'; 'cellnet drain --undo' takes it back")
        raise click.Abort from None
    if as_json:
        print_json(found)
    elif found.flag("cell"):
        click.echo("this cell is drained; 'cellnet drain --undo' when the maintenance is over")


def _when_done(client: Client, found: Fields, *, quiet: bool, names: tuple[str, ...]) -> Fields:
    """A line for each that goes, and one whenever the number of open connections is another."""
    before, last = dict[str, str](), ""
    while True:
        waiting = {each.text("name"): each.text("connections") for each in found.at("waiting").each()}
        if names:
            waiting = {name: each for name, each in waiting.items() if name in names}
        if not quiet:
            for name in before.keys() - waiting.keys():
                click.echo(f"{name} is detached")
            if waiting and (line := _progress(waiting)) != last:
                last = line
                click.echo(line)
        if not waiting:
            return found
        before = waiting
        time.sleep(POLL)
        found = client.get("/v1/drain")


def _progress(waiting: dict[str, str]) -> str:
    number = sum(int(each) for each in waiting.values() if each)
    busy = [f"{name} {each}" for name, each in sorted(waiting.items()) if each not in ("", "0")]
    more = f" ({', '.join(busy[:5])}{', …' if len(busy) > 5 else ''})" if busy else ""
    return f"{counted(str(len(waiting)), 'attachment')}, {counted(str(number), 'open connection')}{more}"
