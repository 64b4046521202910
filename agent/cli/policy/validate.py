"""`policy validate`: mistakes in policy files, and what is odd about policies that are right."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from agent.cli.errors import FAILED, print_warning
from agent.cli.output import counted, json_option, print_json
from agent.cli.policy.effect import called, files_of, show_problems
from agent.client.connection import RequestBody
from agent.client.location import Location

if TYPE_CHECKING:
    from agent.cli.policy.file_check import Checked


class Warned(NamedTuple):
    """What is odd, and where."""

    file: str
    line: int
    column: int
    message: str


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--cluster", is_flag=True, help="Ask the agent, too: apps that do not exist, and policies beside these.")
@click.option("--strict", is_flag=True, help="Exit code 1 for a warning, too.")
@json_option
@click.pass_obj
def validate(location: Location, paths: tuple[Path, ...], cluster: bool, strict: bool, as_json: bool) -> int:
    """Check policy files, or all of a folder, and print every mistake with its line. Exit code 1 if there is one.

    It warns of a name that two policies have, and of one that allows nothing that another does not allow. Without --cluster it
    asks no agent, and compares the files that are given alone. With it a folder stands for all files of this cell.

    Where this host's configuration has mutual TLS, it also says what a file opens that is not encrypted.
    """
    from agent.cli.policy.file_check import check_file, host_facts

    facts = host_facts(location)
    found = [check_file(each, facts=facts) for path in paths for each in files_of(path)]
    is_well = all(each.ok for each in found)
    asks = cluster and is_well
    warned = list(_by_agent(location, paths, found) if asks else _by_themselves(found))
    if as_json:
        print_json({"ok": is_well, "files": [each.json() for each in found], "warnings": [each._asdict() for each in warned]})
    else:
        for each in found:
            _show(each, mutual_tls=facts.mutual_tls)
        for file, line, column, message in warned:
            print_warning(f"{file}:{line}:{column}: {message}")
    return 0 if is_well and not (strict and warned) else FAILED


def _show(checked: "Checked", *, mutual_tls: bool) -> None:
    show_problems(checked)
    if checked.warning:
        print_warning(checked.warning)
    if checked.ok:
        click.echo(f"{checked.path}: {counted(str(len(checked.found)), 'policy', plural='policies')}")
    if checked.of_udp and mutual_tls:
        print_warning(f"{checked.path}: {_plain_udp(checked.of_udp)}")
    if checked.from_outside and mutual_tls:
        print_warning(f"{checked.path}: {_plain_calls(checked.from_outside)}")


def _by_themselves(found: Sequence["Checked"]) -> Iterator[Warned]:
    from agent.policy.oddities import oddities

    policies = [policy for each in found for policy in each.found]
    for odd in oddities(policies, policies, known=None):
        yield Warned(odd.origin.source, odd.origin.line, odd.origin.column, odd.what)


def _by_agent(location: Location, paths: Sequence[Path], found: Sequence["Checked"]) -> Iterator[Warned]:
    """Of a single folder as if it were the cell's own, of files as if they were put among the cell's."""
    places = {called(each.path): each.path for each in found}
    if len(places) < len(found):
        raise click.UsageError("Two files have the same name", click.get_current_context())
    files = {called(each.path): each.content.decode(errors="surrogateescape") for each in found}
    asked: RequestBody = {"files": files, "whole": len(paths) == 1 and paths[0].is_dir()}
    for each in location.client().post("/v1/policies/validate", asked).at("warnings").each():
        place = str(places[each.text("file")])
        yield Warned(place, int(each.text("line")), int(each.text("column")), each.text("message"))


def _plain_udp(policies: int) -> str:
    opens = "1 policy opens" if policies == 1 else f"{policies} policies open"
    return f"{opens} UDP, which mutual TLS leaves in plain, as it does published ports and the host's own calls"


def _plain_calls(policies: int) -> str:
    lets = "1 policy lets" if policies == 1 else f"{policies} policies let"
    return f"{lets} the outside in to ports that mutual TLS leaves in plain; what is published as `tls` is encrypted"
