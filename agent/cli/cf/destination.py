"""Whom a policy of cf's commands leads to: an app of the current space, or of the space that -s and -o name."""

from collections.abc import Callable
from typing import TypeVar

import click

from agent.cli.app_names import AppParameter, full_name
from agent.cli.completion import org_names, space_names
from agent.cli.current_space import COMMAND, current_space
from agent.errors import InvalidInput

Command = TypeVar("Command", bound=Callable[..., object])


class WordOfApp(AppParameter):
    """An app's name as it is written: which one that is depends on options."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it stands."""
        return str(value)


def destination_options(command: Command) -> Command:
    """Adds DST, -s and -o."""
    options = (
        click.argument("destination", metavar="DST", type=WordOfApp()),
        click.option("-s", "space", metavar="SPACE", shell_complete=space_names, help="Space of DST. [default: the target's]"),
        click.option(
            "-o", "org", metavar="ORG", shell_complete=org_names, help="Org of DST, beside -s. [default: the target's]"
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def destination_name(word: str, *, space: str | None, org: str | None) -> str:
    """`web` -> `acme/shop/web`. Raises InvalidInput, UsageError."""
    if space is None and org is not None:
        raise click.UsageError("Name the space, too: -o ORG -s SPACE", click.get_current_context())
    if space is None:
        return full_name(word)
    if "/" in word:
        raise click.UsageError(f"'{word}' names its space itself: leave out -s and -o", click.get_current_context())
    return full_name(f"{org or _current_org()}/{space}/{word}")


def _current_org() -> str:
    space = current_space()
    if space is None:
        raise InvalidInput("there is no org that -s could be of", hint=f"add -o ORG, or choose one by '{COMMAND}'")
    return space.org
