"""`policy`: which apps may reach which, asked of the agent, changed in its store, or checked in a file."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from agent.cli.app_names import APP, PARTY, PATTERN, SPACE, full_pattern
from agent.cli.completion import policy_names
from agent.cli.credentials import credentials_field, credentials_option
from agent.cli.errors import FAILED, print_error, print_warnings
from agent.cli.output import counted, joined, json_option, print_json, table
from agent.cli.policy.effect import ask, diff, dry_run_option, matrix, show_effect, show_problems
from agent.cli.policy.stored import names_of
from agent.cli.policy.suggest import suggest
from agent.cli.policy.unused import list_unused
from agent.cli.policy.validate import validate
from agent.client.answer import Fields
from agent.client.connection import Client, Refused, quoted
from agent.client.location import Location
from agent.errors import InvalidInput
from agent.model.names import Space
from agent.wording import natural


@click.group()
def policy() -> None:
    """Which apps may reach which: everything that no policy allows is refused."""


policy.add_command(diff)
policy.add_command(matrix)
policy.add_command(suggest)
policy.add_command(validate)


@policy.command("list")
@click.option("--app", type=APP, metavar="APP", help="Only those that speak of APP, as the source or the destination.")
@click.option("--to", type=APP, metavar="APP", help="Only those that open APP to somebody.")
@click.option("--unused", is_flag=True, help="Only those that no flow of this cell's containers has used.")
@click.option("--since", metavar="SPAN", help="With --unused: those that were not used for so long, as 7d.")
@json_option
@click.pass_obj
def list_policies(location: Location, app: str | None, to: str | None, unused: bool, since: str | None, as_json: bool) -> None:
    """List the policies of files and of the store."""
    if sum((app is not None, to is not None, unused)) > 1:
        raise click.UsageError("Give one of --app, --to and --unused", click.get_current_context())
    if since is not None and not unused:
        raise click.UsageError("--since needs --unused", click.get_current_context())
    if unused:
        list_unused(location, since, row=_row, as_json=as_json)
        return
    asked = {name: given for name, given in (("app", app), ("to", to)) if given is not None}
    found = location.client().get("/v1/policies", **asked)
    if as_json:
        print_json(found)
        return
    policies = sorted(found.each(), key=_place)
    heads, rows = ["NAME", "FROM", "TO", "PORTS", "ORIGIN"], [list(_row(each)) for each in policies]
    extras = (
        ("MODE", lambda each: each.text("mode") or "-"),
        ("UNTIL", _until),
        ("NOTE", lambda each: each.text("note") or "-"),
    )
    for head, cell in extras:
        cells = list(map(cell, policies))
        if any(each != "-" for each in cells):  # most have none of them
            heads.append(head)
            rows = [[*row, each] for row, each in zip(rows, cells, strict=True)]
    click.echo(table(heads, rows))


def _until(policy: Fields) -> str:
    until = policy.text("until") or "-"
    return f"{until} (ended)" if policy.flag("ended") else until


def _place(each: Fields) -> tuple[object, ...]:
    """Files as they stand there, then the store's by name."""
    where = each.at("origin")
    if where.at("line").missing:
        return (True, natural(each.text("name")))
    return (False, natural(where.text("source")), int(where.text("line")), int(where.text("column")))


def _row(each: Fields) -> tuple[str, ...]:
    ports = _ports(each)
    return (
        each.text("name"),
        _end(each.at("from")),
        _end(each.at("to")),
        joined(ports),
        origin(each.at("origin")),
    )


def _end(end: Fields) -> str:
    """Apps, networks or names of hosts in a row."""
    if isinstance(end.value, str):
        return end.value
    if isinstance(end.value, list):
        return joined([str(each.value) for each in end.each()])
    shown = joined(end.texts("host" if "host" in end.fields else "cidr"))
    return f"{shown} except {joined(end.texts('except'))}" if "except" in end.fields else shown


def _ports(each: Fields) -> tuple[str, ...]:
    ports = tuple(f"{protocol}/{ports}" for protocol in ("tcp", "udp") for ports in each.texts(protocol))
    return (*ports, f"icmp/{each.text('icmp')}") if each.text("icmp") else ports


def origin(where: Fields) -> str:
    """`/etc/cellnet/policies.d/shop.yaml:3`, or `store`."""
    return f"{where.text('source')}:{where.text('line')}" if where.text("line") else where.text("source")


@policy.command()
@click.argument("source", metavar="SRC", type=PATTERN)
@click.argument("destination", metavar="DST", type=PATTERN)
@click.argument("ports", metavar="PORT...", nargs=-1, required=True)
@click.option("--name", metavar="NAME", help="Name of the policy. [default: made up]")
@click.option("--audit", is_flag=True, help="On trial: what no other policy allows passes, and is recorded.")
@click.option("--until", metavar="WHEN", help="When it ends by itself: 2026-12-31T18:00Z, or 2h from now on.")
@click.option("--note", metavar="TEXT", default="", help="Why it is there: shown by list and check.")
@credentials_option
@json_option
@click.pass_obj
def allow(
    location: Location, source: str, destination: str, ports: tuple[str, ...], name: str | None, audit: bool, until: str | None,
    note: str, credentials: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Let SRC reach DST on PORTs (tcp/8080, udp/53, tcp/9000-9010, tcp/any, icmp/echo), kept in the store.

    SRC or DST may be a network outside (192.0.2.0/24), and DST the name of a host (api.example.com).
    """
    mode = "audit" if audit else None
    asked = {"from": source, "to": destination, "ports": ports, "name": name, "mode": mode, "until": until, "note": note}
    made = location.client().post("/v1/policies/allow", {**asked, **credentials_field(credentials)})
    print_warnings(made.texts("notices"))
    if as_json:
        print_json(made)
    else:
        click.echo(f"{'in audit' if audit else 'allowed'} as {made.text('name')}")


@policy.command()
@click.option(
    "-f", "--file", "path", required=True, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="A policy file; - for standard input.",
)  # fmt: skip
@dry_run_option
@credentials_option
@json_option
@click.pass_obj
def apply(location: Location, path: Path, dry_run: bool, credentials: Path | None, as_json: bool) -> int:
    """Put the policies of FILE into the store; one of the same name is replaced.

    One without a name gets the name that 'policy allow' makes up, so it is replaced by its equal only.
    """
    from agent.cli.policy.file_check import check_file, host_facts

    checked = check_file(path, facts=host_facts(location))
    if not checked.ok:
        show_problems(checked)
        return FAILED
    document = checked.content.decode()
    try:
        if dry_run:
            show_effect(ask(location, {"document": document}), as_json=as_json)
            return 0
        made = location.client().post("/v1/policies/apply", {"document": document, **credentials_field(credentials)})
    except InvalidInput as error:
        print_error(error.what, hint=error.hint)  # the file is wrong, the command line is not
        return FAILED
    if as_json:
        print_json(made)
    else:
        click.echo(f"applied {joined(made.texts('names')) or 'nothing'}")
    return 0


@policy.command()
@click.argument("words", metavar="[NAME | SRC DST PORT...]", nargs=-1, shell_complete=policy_names)
@click.option("--space", "of_space", type=SPACE, metavar="O/S", help="All that open a space's apps, or only they use.")
@click.option("--yes", is_flag=True, help="Do not ask, where --space would.")
@dry_run_option
@credentials_option
@json_option
@click.pass_obj
def delete(
    location: Location, words: tuple[str, ...], of_space: Space | None, yes: bool, dry_run: bool, credentials: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Take a policy out of the store, by its NAME or as it was allowed: SRC DST PORT...

    With --space it shows what that changes, and asks.
    """
    if len(words) == 2 or bool(words) == (of_space is not None):
        how = "Give a name, or source, destination and ports, or --space"
        raise click.UsageError(how, click.get_current_context())
    client = location.client()
    names: tuple[str, ...] = (words[0] if len(words) == 1 else _name_of(client, words),) if words else ()
    if dry_run or of_space is not None:
        found = ask(location, {"names": names} if words else {"space": str(of_space)})
        if dry_run:
            show_effect(found, as_json=as_json)
            return
        names = found.texts("deletes")
        if names and not yes:
            show_effect(found, as_json=False)
            _ask(f"delete {counted(str(len(names)), 'policy', plural='policies')}?")
    for name in names:
        client.delete(f"/v1/policies/{quoted(name)}", credentials_field(credentials))
    if as_json:
        print_json({"deleted": names[0] if words else list(names)})
    else:
        click.echo(f"deleted {joined(names) or 'nothing'}")


def _ask(question: str) -> None:
    """Raises Refused where nobody says yes."""
    if not sys.stdin.isatty():
        raise Refused("nobody is there to be asked", hint="--yes does it without asking")
    if not click.confirm(question):
        raise Refused("nothing was changed", hint="say y to do it")


def _name_of(client: Client, words: Sequence[str]) -> str:
    """The stored policy that allows exactly these, however its ports are written."""
    from agent.policy.language.documents import written
    from agent.policy.language.language import allowed

    source, destination, ports = full_pattern(words[0]), full_pattern(words[1]), words[2:]
    wanted = allowed(source, destination, ports)
    from_, to = written(wanted.sources), written(wanted.to)
    tcp, udp = (tuple(map(str, each)) for each in (wanted.tcp, wanted.udp))
    found = names_of(client.get("/v1/policies"), source=from_, to=to, tcp=tcp, udp=udp, icmp=wanted.icmp)
    if found:
        return found[0]
    asked = f"{source} to {destination} on {joined(ports)}"
    raise Refused(f"the store has no policy for exactly {asked}", hint="see 'cellnet policy list'")


@policy.command("accept-loss")
@credentials_option
@json_option
@click.pass_obj
def accept_loss(location: Location, credentials: Path | None, as_json: bool) -> None:
    """Give up, on all cells, the policies that are held since the store lost its data."""
    given_up = location.client().post("/v1/policies/accept-loss", credentials_field(credentials))
    if as_json:
        print_json(given_up)
    else:
        click.echo(f"given up: {joined(given_up.texts('names')) or 'nothing was held here'}")


@policy.command()
@click.argument("source", metavar="SRC", type=PARTY)
@click.argument("destination", metavar="DST", type=PARTY)
@click.argument("port", metavar="PORT")
@json_option
@click.pass_obj
def check(location: Location, source: str, destination: str, port: str, as_json: bool) -> int:
    """Say whether SRC may reach DST on PORT (tcp/8080, icmp/echo), and by which policy. Exit code 1 if not.

    SRC or DST may be an address outside, and DST the name of a host.
    """
    found = location.client().get("/v1/policies/check", **{"from": source, "to": destination, "port": port})
    print_warnings(found.texts("notices"))
    allowed = found.flag("allowed")
    if as_json:
        print_json(found)
    elif allowed:
        ends = f", until {found.text('until')}" if found.text("until") else ""
        click.echo(f"{click.style('allowed', fg='green')} by {found.text('by')} ({found.text('origin')}){ends}")
        if found.text("mode"):
            click.echo("in audit alone: it passes, and is recorded as what would be refused ('cellnet flows --denied')")
        if note := found.text("note"):
            click.echo(f"note: {note}")
    else:
        click.echo(click.style("denied", fg="red"))
        if ports := found.texts("ports"):
            click.echo(f"{source} may reach {destination} on {joined(ports)}")
        _show_reverse(found.at("reverse"), source=source, destination=destination)
    return 0 if allowed else FAILED


def _show_reverse(reverse: Fields, *, source: str, destination: str) -> None:
    if not reverse.missing:
        ends = f"{destination} to {source}"
        click.echo(f"the other direction, {ends}, is allowed by {reverse.text('by')} ({reverse.text('origin')})")


@policy.command()
def schema() -> None:
    """Print the JSON Schema of a policy file, for editors."""
    from agent.policy.language.schema import schema as made

    print_json(made())
