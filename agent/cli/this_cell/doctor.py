"""`doctor`: what of this host is not as cellnet needs it, with the command that mends each."""

import click

from agent.cli.errors import FAILED
from agent.cli.output import json_option, print_json
from agent.client.location import Location, need_root

WIDTH = 12


@click.command()
@json_option
@click.pass_obj
def doctor(location: Location, as_json: bool) -> int:
    """Look at this host, with a running agent or without: what is wrong, and what mends it. Exit code 1 if anything is.

    It changes nothing, and asks nobody outside of this cell but its etcd.
    """
    need_root("cellnet doctor")
    from agent.doctor.checks import examine
    from agent.doctor.examination import all_checks

    found = examine(all_checks(location.load(), location.client()))
    well = all(each.is_well for each in found)
    if as_json:
        checks = [
            {"name": each.name, "ok": each.is_well, "about": each.finding.about,
             "problems": [{"what": one.what, "hint": one.hint} for one in each.finding.problems]}
            for each in found
        ]  # fmt: skip
        print_json({"ok": well, "checks": checks})
        return 0 if well else FAILED
    for each in found:
        mark = click.style("ok   ", fg="green") if each.is_well else click.style("wrong", fg="red", bold=True)
        click.echo(f"{mark}  {each.name:<{WIDTH}}  {each.finding.about}".rstrip())
        for one in each.finding.problems:
            click.echo(f"         {one.what}" + (f"\n           {one.hint}" if one.hint else ""))
    return 0 if well else FAILED
