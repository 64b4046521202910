"""`agent`, `envoy`, `up`: what runs in the foreground for as long as the cell does."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from agent.client.location import Location, need_root
from agent.errors import RAISED

if TYPE_CHECKING:
    from agent.config.config import Config


@click.command()
@click.pass_obj
def agent(location: Location) -> int:
    """Run the agent in the foreground; what systemd starts."""
    need_root("cellnet agent")
    config = _loaded(location)
    from agent.daemon.main import run_agent

    return int(run_agent(config) or 0)


@click.command()
@click.pass_obj
def envoy(location: Location) -> int:
    """Become Envoy with this cell's configuration, in the foreground."""
    need_root("cellnet envoy")
    config = location.load()
    from agent.envoy.process import exec_envoy

    return int(exec_envoy(config) or 0)


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
