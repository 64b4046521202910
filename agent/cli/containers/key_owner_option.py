"""`--key-owner`, for whoever asks for an attachment whose processes cellnet does not start."""

from collections.abc import Callable
from typing import TypeVar

import click

from agent.client.connection import RequestBody
from agent.model.key_owner import KeyOwner

Command = TypeVar("Command", bound=Callable[..., object])


def _parsed(_context: click.Context, _option: click.Parameter, text: str | None) -> KeyOwner | None:
    return None if text is None else KeyOwner.parse(text)


def key_owner_option(command: Command) -> Command:
    """Adds it."""
    return click.option(
        "--key-owner",
        callback=_parsed,
        metavar="UID[:GID]",
        help="The host's numbers of the user, and of a group, that may read the instance's key. [default: root alone]",
    )(command)


def key_owner_field(owner: KeyOwner | None) -> RequestBody:
    """What it adds to a request."""
    return {} if owner is None else {"key_owner": {"uid": owner.uid, "gid": owner.gid}}
