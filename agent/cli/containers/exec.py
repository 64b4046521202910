"""`exec`: a command inside an attachment's namespace, for a look around. It becomes the command; there is no child."""

import os
from pathlib import Path

import click

from agent.cli.completion import attachment_names
from agent.cli.containers.command import execute_or_say
from agent.cli.containers.identity_mounts import bind_here, missing_folders, private_mounts
from agent.cli.containers.named import attached
from agent.cli.containers.resolver_mounts import bind_resolver, resolv_conf_of
from agent.cli.containers.sysfs import mount_own_sysfs
from agent.client.location import Location, need_root
from agent.errors import HostRefused
from host import syscalls
from host.errors import refused_as


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("name", shell_complete=attachment_names)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
@click.pass_obj
def execute_in(location: Location, name: str, command: tuple[str, ...]) -> int:
    """Run CMD inside the namespace of an attachment, with its environment and resolv.conf."""
    need_root("cellnet exec")
    command = command[1:] if command[0] == "--" else command  # click leaves it there behind NAME
    if not command:
        raise click.UsageError("Missing CMD", click.get_current_context())
    found = attached(location.client(), name)
    environment, pin = found.fields.mapping("environment"), found.fields.text("pin")
    folders = missing_folders(environment, agent_pid=found.agent_pid)
    private_mounts()
    bind_here(folders, agent_pid=found.agent_pid)
    with refused_as("the attachment's resolv.conf cannot be put in place", hint="see /etc/resolv.conf and 'findmnt /etc'"):
        bind_resolver(resolv_conf_of(found.fields))
    _enter(Path(pin), agent_pid=found.agent_pid)
    return execute_or_say(command, environment)


def _enter(pin: Path, *, agent_pid: int) -> None:
    """The pin is where the agent sees it, which may be another mount namespace than ours."""
    place = Path(f"/proc/{agent_pid}/root{pin}") if agent_pid else pin
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
        mount_own_sysfs()
    except OSError as error:
        raise HostRefused(f"cannot enter {pin}: {error.strerror}", hint="see whether it is still in 'cellnet ps'") from error
    os.close(descriptor)
