"""docs/cli.md, written from the commands themselves; a test compares."""

from collections.abc import Iterable, Iterator

import click

from agent.cli.main import cli

HEAD = """# The command line

<!-- written by `python -m docs.pages` from the commands' own help -->

Errors go to standard error as `error: what; hint: what to do`. Exit codes: 0 done or yes, 1 failed or no, 2 wrong usage.
All commands take `--json` but these: {without_json}.
The commands talk to the agent through its socket `/run/cellnet/agent.sock` only: root may do everything, members of group
`cellnet` may look ([api.md](api.md)).

An app's name is `org/space/app`, in lower case, which upper case is taken for. `cellnet target -o acme -s shop` keeps a space
in the user's own file `~/.config/cellnet/target` (below `XDG_CONFIG_HOME` where that is set); from then on `web` is
`acme/shop/web`, and `*` in a policy is `acme/shop/*`. `CELLNET_SPACE=acme/shop` in the environment does the same, and goes
before it.
"""
WIDTH = 100


def text() -> str:
    """The whole page."""
    contexts = list(command_contexts(width=WIDTH))
    head = HEAD.format(without_json=", ".join(f"`{each}`" for each in _without_json(contexts)))
    return "\n".join([head, *(part for context in contexts for part in _section(context))])


def command_contexts(*, width: int) -> Iterator[click.Context]:
    """`cellnet` and all commands below it, in the order of `--help`; lines of that width."""
    return _contexts(click.Context(cli, info_name="cellnet", terminal_width=width, **cli.context_settings))


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                width = context.terminal_width
                yield from _contexts(click.Context(found, parent=context, info_name=name, terminal_width=width))


def _without_json(contexts: Iterable[click.Context]) -> Iterator[str]:
    """The commands that print no data."""
    for each in contexts:
        if not isinstance(each.command, click.Group) and all("--json" not in option.opts for option in each.command.params):
            yield each.command_path.removeprefix("cellnet ")


def _section(context: click.Context) -> list[str]:
    return [f"## {context.command_path}\n", "```text", context.get_help(), "```\n"]
