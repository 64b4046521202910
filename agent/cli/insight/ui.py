"""`ui`: the page in the browser, served by this process with its user's rights."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.credentials import credentials_field, credentials_option
from agent.cli.errors import print_warning
from agent.client.location import Location
from agent.errors import InvalidInput

if TYPE_CHECKING:
    from agent.config.listen import ListenAddress


@click.command()
@click.option(
    "--listen", default="127.0.0.1:8480", show_default=True, metavar="ADDRESS:PORT",
    help="Serve there. Port 0 is any that is free.",
)  # fmt: skip
@credentials_option
@click.pass_obj
def ui(location: Location, listen: str, credentials: Path | None) -> None:
    """Serve a page that shows apps, policies, flows and refusals as they happen, and print its address, until interrupted.

    The address is good once, for one browser of this user (of the one who called sudo). The page has the rights of this
    command: group cellnet may look, root may change policies, each change after a look at what it does, and with an undo.
    """
    place = _place(listen)
    if credentials is not None:
        credentials_field(credentials)  # a mistake is told now
    if not place.address.is_loopback:
        print_warning(f"{place} may be reached from elsewhere, and nothing is encrypted", hint="use 127.0.0.1 and ssh -L")
    import asyncio

    asyncio.run(_serve(location, place, credentials=credentials))


async def _serve(location: Location, place: "ListenAddress", *, credentials: Path | None) -> None:
    import asyncio
    import os
    import signal

    from agent.ui.agent_link import AgentLink
    from agent.ui.changes import PolicyChanges
    from agent.ui.server import serving
    from agent.ui.visitors import called_by

    ended = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, ended.set)
    agent = AgentLink(location.socket())
    changes = PolicyChanges(agent, now=_now, rights=lambda: credentials_field(credentials))
    async with serving(place, agent, changes=changes, users=called_by(), may_change=os.geteuid() == 0) as served:
        click.echo(served.address)
        click.echo("Open it in a browser of this machine; it is good once. Ctrl-C ends it.", err=True)
        await ended.wait()


def _place(text: str) -> "ListenAddress":
    """Raises InvalidInput."""
    from ipaddress import IPv4Address

    from agent.config.listen import ListenAddress

    address, _, port = text.rpartition(":")
    with contextlib.suppress(ValueError):
        if port.isascii() and port.isdecimal() and int(port[:6]) <= 65535:
            return ListenAddress(IPv4Address(address), int(port))
    raise InvalidInput(f"'{text}' is no address to listen at", hint="ADDRESS:PORT, e.g. 127.0.0.1:8480")


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
