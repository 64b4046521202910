"""`explain`: why a connection passes, or what stands in its way."""

from collections.abc import Sequence

import click

from agent.cli.app_names import PARTY
from agent.cli.errors import FAILED
from agent.cli.output import json_option, print_json
from agent.client.answer import Fields
from agent.client.location import Location

MARKS = {True: ("ok", "green"), False: ("NO", "red"), None: ("--", "yellow")}


@click.command()
@click.argument("source", metavar="SRC", type=PARTY)
@click.argument("destination", metavar="DST", type=PARTY)
@click.argument("port", metavar="PORT")
@click.option("--try", "is_tried", is_flag=True, help="Call it for real, from inside SRC; for root.")
@json_option
@click.pass_obj
def explain(location: Location, source: str, destination: str, port: str, is_tried: bool, as_json: bool) -> int:
    """Say step by step whether SRC can reach DST on PORT (tcp/8080), and what stands in the way. Exit code 1 if anything does.

    No packet is sent, unless with --try. What another cell alone sees it is asked for.
    """
    client, question = location.client(), {"from": source, "to": destination, "port": port}
    found = client.post("/v1/explain/try", question) if is_tried else client.get("/v1/explain", **question)
    works = found.flag("works")
    if as_json:
        print_json(found)
    else:
        click.echo(page(found))
    return 0 if works else FAILED


def page(found: Fields) -> str:
    """A line for each step, those with a hint two, and what follows from them."""
    steps = list(found.at("steps").each())
    return "\n".join((*map(_line, steps), _verdict(steps, works=found.flag("works"))))


def _verdict(steps: Sequence[Fields], *, works: bool) -> str:
    """What listens on another cell is not seen here, so that it works is not known."""
    if not works:
        return click.style("it does not work", fg="red", bold=True)
    if any(each.text("name") == "try" and each.at("ok").missing for each in steps):
        return click.style("nothing refused it", fg="yellow")
    is_tried = any(each.text("name") == "try" for each in steps)
    if not is_tried and any(each.text("name") == "listener" and each.at("ok").missing for each in steps):
        return click.style("nothing that is seen on this cell stands in the way", fg="yellow")
    return click.style("it works", fg="green")


def _line(step: Fields) -> str:
    mark, colour = MARKS[None if step.at("ok").missing else step.flag("ok")]
    text = f"{click.style(mark, fg=colour)}  {step.text('name')}: {step.text('what')}"
    return f"{text}\n      {step.text('hint')}" if step.text("hint") else text
