"""`status` and `sync`: how the cell is, on one screen, and waiting until it is as it should be."""

import time

import click

from agent.cli.client import ANSWER_WITHIN, Client
from agent.cli.failures import FAILED, Refused
from agent.cli.fields import Fields
from agent.cli.output import counted, json_option, moment, print_json, spoken
from agent.cli.place import Place
from agent.errors import Unavailable

POLL = 0.1


@click.command()
@click.option("--wait", type=click.FloatRange(min=0), default=0, metavar="S", help="Wait up to S seconds until all is well.")
@json_option
@click.pass_obj
def status(place: Place, wait: float, as_json: bool) -> int:
    """Show the cell on one screen. Exit code 1 if anything is wrong."""
    found = _when_well(place.client(), wait=wait)
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(screen(found)))
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


def screen(found: Fields) -> list[str]:
    """The lines of `cellnet status`."""
    cell, store, envoy = found.at("cell"), found.at("store"), found.at("envoy")
    well = (
        click.style("all is well", fg="green") if found.flag("ok") else click.style("something is wrong", fg="red", bold=True)
    )
    rows = {
        "cell": f"{cell.text('name')}, {cell.text('subnet')} of {cell.text('overlay')}, MTU {cell.text('mtu')}",
        "containers": cell.text("attachments"),
        "agent": f"{cell.text('version')}, pid {cell.text('pid')}, since {moment(cell.text('started'))}",
        "store": f"{store.text('kind')} at {store.text('location')}",
        "peers": spoken(found.texts("peers")) or "none",
        "policies": _policies(found.at("policies")),
        "envoy": _envoy(envoy),
        "ca": _ca(found.at("ca")),
        "expiry": "none" if found.at("ca").missing else moment(found.at("ca").text("next_expiry")),
        "applied": _applied(found.at("last_apply")),
        "repairs": found.text("repairs"),
    }
    lines = [well, *(f"  {name:<11}{text}" for name, text in rows.items())]
    for problem in found.at("problems").each():
        first, *more = problem.text("what").rstrip().splitlines() or [""]
        lines += ["", f"{click.style(problem.text('area') + ':', fg='red')} {first}", *(f"  {line}" for line in more)]
        lines += [f"  hint: {problem.text('hint')}"] if problem.text("hint") else []
    return lines


def _policies(found: Fields) -> str:
    files = counted(found.text("files"), "file")
    text = f"{found.text('from_files')} from {files}, {found.text('from_store')} from the store"
    bad = found.texts("bad_files")
    return text + (click.style(f", {counted(str(len(bad)), 'bad file')}", fg="red") if bad else "")


def _envoy(found: Fields) -> str:
    if not found.flag("connected"):
        return click.style("not connected", fg="red")
    return f"{found.text('version') or 'unknown version'}, connected, {counted(found.text('listeners'), 'listener')}"


def _ca(found: Fields) -> str:
    if found.missing:
        return click.style("none", fg="red")
    return f"cell until {found.text('cell_not_after')[:10]}, root until {found.text('root_not_after')[:10]}"


def _applied(found: Fields) -> str:
    if found.missing:
        return "nothing yet"
    return f"{moment(found.text('at'))}, {counted(found.text('changes'), 'change')} in {found.text('milliseconds')} ms"


@click.command()
@click.option(
    "--timeout", type=click.FloatRange(0, 300), default=10, show_default=True, metavar="S", help="Wait up to S seconds."
)
@json_option
@click.pass_obj
def sync(place: Place, timeout: float, as_json: bool) -> int:
    """Return when everything known now, on disk and in the store, is enforced."""
    done = place.client().post("/v1/sync", {"timeout": timeout}, within=ANSWER_WITHIN + timeout)
    if as_json:
        print_json(done)
    elif not done.flag("ok"):
        raise Refused(f"not all is enforced: {spoken(done.texts('missing'))}", hint="see 'cellnet status'")
    return 0 if done.flag("ok") else FAILED
