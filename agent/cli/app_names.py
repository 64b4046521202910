"""How commands take the names of apps: `web` is the app of the current space, and the shell completes what is known.

The one place where such names are resolved. The agent is asked by full names in lower case alone: a name on the command line
is taken in either case, as DNS names are, which it becomes a part of; users bring names with capitals from elsewhere.
"""

from typing import TYPE_CHECKING, Final

import click

from agent.cli.current_space import HINT, current_space
from agent.errors import InvalidInput
from agent.model.names import AppName, Space, lowered

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SCOPES: Final = ("same-space", "same-org")
"""Words of policies that stand where an app's name could; an app of that name is named in full."""

ALL: Final = ("*", "any", "all")
ALL_HINT: Final = "write org/space/* for all apps of a space, 0.0.0.0/0 for all of the outside"


def full_name(word: str) -> str:
    """`web` -> `acme/shop/web`. Raises InvalidInput."""
    return str(AppName.parse(_in_space(lowered(word))))


def full_pattern(word: str) -> str:
    """The same for what policies name: `*` is all of the current space; scopes, patterns and what is outside stay. The agent
    judges the rest."""
    hint = ALL_HINT if word in ALL else HINT
    return word if word in SCOPES else lowered(word) if _is_outside(word) else _in_space(lowered(word), hint=hint)


def full_party(word: str) -> str:
    """The same for one end of a connection: an address or a name of the outside stays."""
    return lowered(word) if _is_outside(word) else full_name(word)


def _is_outside(word: str) -> bool:
    """Whether it can be no app's name, but an address or the name of a host."""
    return "." in word or ":" in word


def _in_space(word: str, *, hint: str = HINT) -> str:
    if "/" in word:
        return word
    space = current_space()
    if space is None:
        raise InvalidInput(f"'{word}' is not an app's name", hint=hint)
    return f"{space}/{word}"


class AppParameter(click.ParamType[str]):
    """An app's name on the command line."""

    name = "app"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """In full."""
        return full_name(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Known apps that begin so."""
        from click.shell_completion import CompletionItem

        from agent.cli.completion import app_names

        return [CompletionItem(each) for each in app_names(ctx, lowered(incomplete))]


class PatternParameter(AppParameter):
    """An app, all of a space or an org, or a scope: what a policy names."""

    name = "apps"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """In full."""
        return full_pattern(str(value))


class PartyParameter(AppParameter):
    """One end of a connection: an app, or an address or a name of the outside."""

    name = "party"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """In full."""
        return full_party(str(value))


class SpaceParameter(click.ParamType[Space]):
    """A space's name on the command line."""

    name = "space"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Space:
        """Raises InvalidInput."""
        return value if isinstance(value, Space) else Space.parse(lowered(str(value)))


APP, PATTERN, PARTY, SPACE = AppParameter(), PatternParameter(), PartyParameter(), SpaceParameter()
