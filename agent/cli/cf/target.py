"""`target`: the space whose apps need no more than their last part on the command line, kept among the user's own files."""

import os

import click

from agent.cli.completion import org_names, space_names
from agent.cli.current_space import COMMAND, VARIABLE, current_space, keep_space, kept_space, target_file
from agent.cli.errors import print_warning
from agent.cli.output import json_option, print_json
from agent.client.connection import Refused
from agent.client.location import Location
from agent.model.names import Space, lowered
from agent.wording import listed


@click.command()
@click.option("-o", "org", metavar="ORG", shell_complete=org_names, help="Its org. [default: that of before]")
@click.option("-s", "space", metavar="SPACE", shell_complete=space_names, help="Its space. [default: the only one of the org]")
@json_option
@click.pass_obj
def target(location: Location, org: str | None, space: str | None, as_json: bool) -> None:
    """Choose the space of apps that are named by their last part, or show it.

    It is kept for this user. CELLNET_SPACE=org/space in the environment goes before it.
    """
    if org is not None or space is not None:
        keep_space(_chosen(location, org, space))
    found = current_space()
    place = VARIABLE if os.environ.get(VARIABLE) else str(target_file())
    if (org or space) and found != kept_space():
        print_warning(f"{VARIABLE} is set, and goes before it", hint=f"unset {VARIABLE}")
    if as_json:
        fields = (None, None, None) if found is None else (found.org, found.space, place)
        print_json(dict(zip(("org", "space", "from"), fields, strict=True)))
    elif found is None:
        click.echo(f"no org and no space are targeted: use '{COMMAND}'")
    else:
        click.echo(f"org:    {found.org}\nspace:  {found.space}\nfrom:   {place}")


def _chosen(location: Location, org: str | None, space: str | None) -> Space:
    """What is not named: the org of now, and the only space of the org. Raises InvalidInput, Refused."""
    if org is None:
        before = kept_space()
        if before is None:
            raise Refused("no org is targeted that the space could be of", hint=f"use '{COMMAND}'")
        org = before.org
    return Space.parse(lowered(f"{org}/{space if space is not None else _only_space(location, org)}"))


def _only_space(location: Location, org: str) -> str:
    names = [each.text("app").split("/") for each in location.client().get("/v1/apps").each()]
    spaces = sorted({name[1] for name in names if name[0] == lowered(org)})
    if len(spaces) != 1:
        what = f"{org} has the spaces {listed(spaces)}" if spaces else f"nothing of {org} runs here or is named"
        raise Refused(f"{what}, so there is no one space to take", hint="name it: -s SPACE")
    return spaces[0]
