"""`run`: a command in a namespace of its own on the overlay, for as long as it lives."""

import signal
import time
from collections.abc import Mapping
from types import FrameType

import click

from agent.cli.containers.app_user import AppUser, find_user
from agent.cli.containers.attach_options import AttachOptions, attach_options, attach_request
from agent.cli.containers.child import CannotRun, Child, Command, Surroundings, start, unblock_signals
from agent.cli.containers.identity_mounts import missing_folders
from agent.cli.containers.lasting_resolver import LastingResolver
from agent.cli.containers.resolver_mounts import resolv_conf_of
from agent.cli.errors import print_error, print_warning
from agent.client.connection import Client, Reply, attachment_address
from agent.client.location import Location, need_root
from agent.errors import RAISED, InvalidInput
from agent.wording import listed

END_WITHIN, POLL = 0.5, 0.02  # seconds for what ends together with CMD
DETACH_WITHIN = 15.0
"""Seconds for an agent that hangs: CMD has ended, its caller waits for the exit code, and the agent sweeps by itself."""


def _user(_context: click.Context, _option: click.Parameter, text: str | None) -> AppUser | None:
    return None if text is None else find_user(text)


def _variables(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """The last of one name counts."""
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise InvalidInput(f"--env {text}: expected KEY=VALUE", hint="CMD has all variables of this shell without it")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


@click.command(context_settings={"allow_interspersed_args": False})
@attach_options
@click.option(
    "--user",
    "-u",
    callback=_user,
    metavar="USER[:GROUP]",
    help="The user that CMD runs as, by name or number, who can then read the instance's key. [default: root]",
)
@click.option(
    "--env", "-e", "variables", callback=_variables, multiple=True, metavar="KEY=VALUE", help="A variable for CMD (repeatable)."
)
@click.option("--workdir", "-w", metavar="DIR", help="The folder that CMD runs in. [default: this one]")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
@click.pass_obj
def run(
    location: Location,
    options: AttachOptions,
    user: AppUser | None,
    variables: dict[str, str],
    workdir: str | None,
    command: tuple[str, ...],
) -> int:
    """Run CMD in a network namespace of its own on the overlay, with its environment.

    With --user CMD has that user's rights alone, and HOME, USER and LOGNAME are that user's: with all of the user's groups, or
    with the one that is named.

    Returns CMD's exit code. The attachment goes when CMD ends, or when 'cellnet run' is killed: let CMD stay in the foreground,
    since what it leaves in the background has no network after that, and is named.
    """
    need_root("cellnet run")
    client = location.client()
    _undo_on_signals()
    child = start(Command(command, user, workdir))
    try:
        # the owner is the caller, this process, so that the attachment goes with it whatever happens
        body = {**options.body(), "netns": f"/proc/{child.pid}/ns/net", "owner": "caller"}
        if user is not None:
            body["key_owner"] = {"uid": user.uid}
        made = attach_request(client, options.name, body)
        return _live(child, client, made, variables={**({} if user is None else user.environment()), **variables})
    finally:
        child.end()


def _undo_on_signals() -> None:
    """Until the command runs and gets them, these end us by way of our `finally`s. What a caller ignores stays ignored."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for each in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, end)


def _live(child: Child, client: Client, made: Reply, *, variables: Mapping[str, str]) -> int:
    ours = made.fields.mapping("environment")
    try:
        folders = [str(folder) for folder in missing_folders(ours, agent_pid=made.agent_pid)]
        resolv_conf = resolv_conf_of(made.fields)
        child.go(Surroundings({**ours, **variables}, folders, made.agent_pid, resolv_conf))
        resolver = LastingResolver(resolv_conf, pid=child.pid)
        resolver.follow()
        resolver.renew()
        return child.wait(resolver.renew)
    except CannotRun as error:
        print_error(f"cannot run {error.what}")
        return error.code
    finally:
        child.end()
        unblock_signals()
        _detach(client, made.fields.text("name"))
        _report_left_behind(child, made.fields.text("name"))


def _report_left_behind(child: Child, name: str) -> None:
    """A program that goes into the background leaves CMD's end behind, and has no network from now on."""
    until = time.monotonic() + END_WITHIN
    while (left := child.left_behind()) and time.monotonic() < until:
        time.sleep(POLL)
    if left:
        what = f"'{name}' has ended, but processes of it live on without a network: {listed(left)}"
        print_warning(what, hint="end them, and let CMD stay in the foreground")


def _detach(client: Client, name: str) -> None:
    try:
        client.delete(attachment_address(name), within=DETACH_WITHIN)
    except RAISED as error:
        print_error(f"'{name}' is not detached: {error.what}", hint="the agent sweeps it when it runs again")
