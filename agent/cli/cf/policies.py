"""`add-network-policy`, `remove-network-policy`, `network-policies`: `policy allow`, `delete` and `list` in cf's words."""

from collections.abc import Mapping
from pathlib import Path

import click

from agent.cli.app_names import APP
from agent.cli.cf.destination import destination_name, destination_options
from agent.cli.cf.network_policy import NetworkPolicy, network_policies_of
from agent.cli.credentials import credentials_field, credentials_option
from agent.cli.current_space import COMMAND, current_space
from agent.cli.errors import print_warning, print_warnings
from agent.cli.output import json_option, print_json, table
from agent.cli.policy.stored import names_of
from agent.client.connection import Refused, quoted
from agent.client.location import Location
from agent.errors import InvalidInput
from agent.model.names import AppName, Space
from agent.wording import listed

HEADS = ("source", "destination", "protocol", "ports", "destination space", "destination org", "origin")
PROTOCOLS = click.Choice(["tcp", "udp"], case_sensitive=False)
DELETE_HINT = "'cellnet policy delete NAME' takes a whole policy out of the store; a file's is its line there"
PORT_HELP = "A port, or a range as 8080-8090."


@click.command("add-network-policy")
@click.argument("source", metavar="SRC", type=APP)
@destination_options
@click.option("--protocol", type=PROTOCOLS, default="tcp", show_default=True, help="What DST speaks there.")
@click.option("--port", metavar="PORT", default="8080", show_default=True, help=PORT_HELP)
@credentials_option
@json_option
@click.pass_obj
def add_network_policy(
    location: Location, source: str, destination: str, protocol: str, port: str, space: str | None, org: str | None,
    credentials: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Let SRC reach DST on a port, as 'policy allow' does."""
    to, opened = destination_name(destination, space=space, org=org), f"{protocol}/{port}"
    rights = credentials_field(credentials)
    made = location.client().post("/v1/policies/allow", {"from": source, "to": to, "ports": [opened], **rights})
    print_warnings(made.texts("notices"))
    if as_json:
        print_json(made)
    else:
        click.echo(f"{source} may reach {to} on {opened} by {made.text('name')}\nOK")


@click.command("remove-network-policy")
@click.argument("source", metavar="SRC", type=APP)
@destination_options
@click.option("--protocol", type=PROTOCOLS, required=True, help="What DST speaks there.")
@click.option("--port", metavar="PORT", required=True, help=PORT_HELP)
@credentials_option
@json_option
@click.pass_obj
def remove_network_policy(
    location: Location, source: str, destination: str, protocol: str, port: str, space: str | None, org: str | None,
    credentials: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """No longer let SRC reach DST on a port, as 'policy delete' does.

    Connections are cut. Without such a policy there is nothing to do, unless another one lets SRC reach DST on that port: that
    is an error.
    """
    from agent.policy.language.ports import parse_argument

    to, rights = destination_name(destination, space=space, org=org), credentials_field(credentials)
    _, ports = parse_argument(f"{protocol}/{port}")
    client, asked = location.client(), f"{source} to {to} on {protocol}/{ports}"
    policies, ends = client.get("/v1/policies"), (AppName.parse(source), AppName.parse(to))
    tcp, udp = ([str(ports)] if protocol == each else [] for each in ("tcp", "udp"))
    names = names_of(policies, source=source, to=to, tcp=tcp, udp=udp)
    open_by = [each for each in network_policies_of(policies) if each.joins(*ends, on=ports, protocol=protocol)]
    others = listed([f"{each.policy} ({each.origin})" for each in open_by if not each.is_stored or each.policy not in names])
    if others and not names:
        raise Refused(f"{asked} is open by {others}, and the store has no policy for exactly that", hint=DELETE_HINT)
    for name in names:
        client.delete(f"/v1/policies/{quoted(name)}", rights)
    if others:
        print_warning(f"{asked} stays open by {others}")
    if not names:  # a name may be mistyped, whichever port it is asked about
        checked = client.get("/v1/policies/check", **{"from": source, "to": to, "port": "tcp/8080"})
        print_warnings(checked.texts("notices"))
    if as_json:
        print_json({"removed": names})
    else:
        lines = [f"removed {name}" for name in names] or ["there is no such policy"]
        click.echo("\n".join([*lines, "OK"]))


@click.command("network-policies")
@click.option("--source", metavar="SRC", type=APP, help="What this app may reach. [default: all of the target's space]")
@json_option
@click.pass_obj
def network_policies(location: Location, source: str | None, as_json: bool) -> None:
    """List what the apps of a space may reach, as 'policy list' does.

    Those of the target's space are meant, or the one that is named. Policies of this cell's files are among them.
    """
    space, app = _asked(source)
    found = [each for each in network_policies_of(location.client().get("/v1/policies")) if each.lets_out(space, app)]
    if as_json:
        print_json([_fields(each) for each in found])
    else:
        click.echo(table(HEADS, [_row(each, space) for each in found]))


def _asked(source: str | None) -> tuple[Space, str | None]:
    if source is not None:
        app = AppName.parse(source)
        return Space.of(app), app.app
    space = current_space()
    if space is None:
        raise InvalidInput("there is no space whose policies could be listed", hint=f"choose one by '{COMMAND}'")
    return space, None


def _row(each: NetworkPolicy, space: Space) -> tuple[str, ...]:
    """Apps of the space by their last part, as in cf; what means more than one app as the policy says it."""
    to = each.to
    source = each.source_text.removeprefix(f"{space}/")
    return source, to.app or "*", each.protocol, each.ports, to.space or "*", to.org, each.origin


def _fields(each: NetworkPolicy) -> Mapping[str, str]:
    return {
        "source": each.source_text, "destination": str(each.to), "protocol": each.protocol, "ports": each.ports,
        "policy": each.policy, "origin": each.origin,
    }  # fmt: skip
