"""`agent`, `envoy`, `up`: what runs in the foreground for as long as the cell does."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.client.location import Location, need_root
from agent.errors import RAISED, Conflict

if TYPE_CHECKING:
    from agent.config.config import Config


@click.command()
@click.pass_obj
def agent(location: Location) -> int:
    """Run the agent in the foreground; what systemd starts."""
    need_root("cellnet agent")
    config = _loaded(location)
    from agent.daemon.main import run_agent

    return int(run_agent(config, load=location.load) or 0)


@click.command()
@click.option(
    "--successor", is_flag=True, help="Have a second Envoy take over from the one that systemd runs; no call is dropped."
)
@click.option("--admin-socket", type=click.Path(path_type=Path), hidden=True)
@click.pass_obj
def envoy(location: Location, successor: bool, admin_socket: Path | None) -> int:
    """Become Envoy with this cell's configuration, in the foreground.

    `systemctl reload cellnet-envoy` has a successor take over: the Envoy that runs goes on with the connections that it has,
    until they end.
    """
    need_root("cellnet envoy")
    config = location.load()
    if successor:
        return _succeed(config)
    from agent.envoy.process import exec_envoy

    return int(exec_envoy(config, admin=admin_socket) or 0)


def _succeed(config: "Config") -> int:
    """Start the second one as we were started, and report to systemd which is the main one."""
    from agent.envoy import succession
    from agent.notify import is_heard, notify

    if not is_heard():
        raise Conflict("only systemd lets a second Envoy take over", hint="run: systemctl reload cellnet-envoy")
    own = [word for word in sys.argv[1:] if word != "--successor"]
    command = [sys.executable, "-P", "-m", "agent", *own, "--admin-socket", str(succession.next_admin(config))]
    pid = succession.hand_over(config, start=lambda: succession.start_beside(config, command))
    notify(f"MAINPID={pid}")
    return 0


@click.command()
@click.pass_obj
def dns(location: Location) -> int:
    """Become dnsmasq with this cell's configuration, in the foreground."""
    need_root("cellnet dns")
    config = location.load()
    from agent.dns.process import exec_dns

    return int(exec_dns(config) or 0)


@click.command("dns-hop")
@click.pass_obj
def dns_hop(location: Location) -> int:
    """Ask the outside for the names that policies allow, for dnsmasq, in the foreground."""
    need_root("cellnet dns-hop")
    config = location.load()
    from agent.dns.hop_process import exec_hop

    return int(exec_hop(config) or 0)


@click.command()
@click.pass_obj
def up(location: Location) -> int:
    """Run agent, Envoy and DNS together in the foreground, for a host without systemd.

    Stopping it changes nothing in the kernel: traffic goes on as it was allowed. What goes through Envoy ends with it: TLS on
    61443, and with tls.mtls all TCP between containers. A part that ends is started again: to have the agent read its
    configuration anew, end the process that 'cellnet status' names.
    """
    need_root("cellnet up")
    config = _loaded(location)
    from agent.daemon.up import run_up

    return int(run_up(config) or 0)


def _loaded(location: Location) -> "Config":
    """The configuration; where it is refused, that is why there is no agent."""
    try:
        _finish_restore(location)
        return location.load()
    except RAISED as error:
        from agent import last_start

        last_start.refused(location.default_socket.parent, error, now=datetime.now(UTC))
        raise


def _finish_restore(location: Location) -> None:
    """What a `restore` has decided on and could not end: no agent runs on half of a backup."""
    from agent.config.file import pending_file

    if pending_file(location.config_file).exists():
        from agent.backup.replacement import finish

        finish(location)
