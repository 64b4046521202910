"""The command `cellnet`: its subcommands, loaded when they are called, and the one place where errors become exit codes."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from agent.cli.errors import report
from agent.cli.output import colour
from agent.client.location import Location
from agent.wording import nearest

CF_COMMANDS: Mapping[str, str] = {
    "add-network-policy": "agent.cli.cf.policies:add_network_policy",
    "map-route": "agent.cli.cf.routes:map_route",
    "network-policies": "agent.cli.cf.policies:network_policies",
    "remove-network-policy": "agent.cli.cf.policies:remove_network_policy",
    "target": "agent.cli.cf.target:target",
    "unmap-route": "agent.cli.cf.routes:unmap_route",
}
"""Those of the names below that are cf's own words, for the help."""
COMMANDS: Mapping[str, str] = {
    **CF_COMMANDS,
    "agent": "agent.cli.this_cell.daemons:agent",
    "apps": "agent.cli.apps.apps:apps",
    "attach": "agent.cli.containers.attachments:attach",
    "backup": "agent.cli.this_cell.backup:backup",
    "ca": "agent.cli.cells.ca:ca",
    "cell": "agent.cli.cells.cell:cell",
    "completion": "agent.cli.completion:completion",
    "config": "agent.cli.this_cell.config:config",
    "detach": "agent.cli.containers.attachments:detach",
    "drain": "agent.cli.this_cell.drain:drain",
    "envoy": "agent.cli.this_cell.daemons:envoy",
    "dns": "agent.cli.this_cell.daemons:dns",
    "dns-hop": "agent.cli.this_cell.daemons:dns_hop",
    "doctor": "agent.cli.this_cell.doctor:doctor",
    "events": "agent.cli.insight.events:events",
    "exec": "agent.cli.containers.exec:execute_in",
    "explain": "agent.cli.insight.explain:explain",
    "flows": "agent.cli.insight.flows:flows",
    "hold": "agent.cli.containers.hold:hold",
    "lab": "lab.commands:lab",
    "metrics": "agent.cli.insight.metrics:metrics",
    "policy": "agent.cli.policy.commands:policy",
    "ps": "agent.cli.containers.attachments:ps",
    "release": "agent.cli.containers.reservations:release",
    "reservations": "agent.cli.containers.reservations:reservations",
    "reserve": "agent.cli.containers.reservations:reserve",
    "restore": "agent.cli.this_cell.backup:restore",
    "route": "agent.cli.apps.route:route",
    "run": "agent.cli.containers.run:run",
    "space": "agent.cli.apps.space:space",
    "status": "agent.cli.this_cell.status:status",
    "sync": "agent.cli.this_cell.status:sync",
    "teardown": "agent.cli.this_cell.teardown:teardown",
    "ui": "agent.cli.insight.ui:ui",
    "up": "agent.cli.this_cell.daemons:up",
}
"""Where each subcommand lives: module and name in it."""


def _installed(place: str) -> bool:
    if place.startswith("agent."):
        return True
    from importlib.util import find_spec  # slow to import

    return find_spec(place.partition(":")[0]) is not None


class LazyGroup(click.Group):
    """A group that imports the module of a subcommand only when that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names. The lab is left out where it is not installed."""
        return sorted(name for name, place in COMMANDS.items() if _installed(place))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS or not _installed(COMMANDS[cmd_name]):
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does it, with cf's words by themselves."""
        names = self.list_commands(ctx)
        ours, theirs = (tuple(each for each in names if (each in CF_COMMANDS) == is_cf) for is_cf in (False, True))
        for title, part in (("Commands", ours), ("In the words of Cloud Foundry's cf", theirs)):
            limit = formatter.width - 6 - max(map(len, part))
            found = ((name, self.get_command(ctx, name)) for name in part)
            with formatter.section(title):
                formatter.write_dl([(name, each.get_short_help_str(limit)) for name, each in found if each is not None])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a suggestion for a name that is not there."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = nearest(args[0], COMMANDS)
            more = "" if near is None else f" Did you mean '{near}'?"
            raise click.UsageError(f"No such command '{args[0]}'.{more}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    envvar="CELLNET_ROOT",
    metavar="DIR",
    help="Put every path of cellnet below DIR, so that several agents can run side by side. [env: CELLNET_ROOT]",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="CELLNET_CONFIG",
    metavar="FILE",
    help="Read FILE instead of /etc/cellnet/agent.yaml. [env: CELLNET_CONFIG]",
)
@click.version_option(package_name="cellnet", message="cellnet %(version)s")
@click.pass_context
def cli(ctx: click.Context, root: Path | None, config: Path | None) -> None:
    """Overlay addresses, default-deny policies and automatic TLS for the containers of this host.

    Exit codes: 0 done or yes, 1 failed or no, 2 wrong usage.
    """
    ctx.color = colour()
    ctx.obj = Location(root=root, config=config)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; what goes wrong is reported on standard error as `error: what; hint: what to do`."""
    try:
        code = cli.main(list(arguments), prog_name="cellnet", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of our output has seen enough; Python would print_error when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return report(error)
    return code if isinstance(code, int) else 0
