"""`completion`: the shell's part of tab completion, and the names that are completed."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from agent.model.names import lowered
from agent.wording import natural

if TYPE_CHECKING:
    from agent.client.answer import Fields
    from agent.client.location import Location

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  cellnet completion bash > /etc/bash_completion.d/cellnet
    zsh:   cellnet completion zsh > "${fpath[1]}/_cellnet"
    fish:  cellnet completion fish > ~/.config/fish/completions/cellnet.fish
    """
    from click.shell_completion import get_completion_class

    from agent.cli.main import cli

    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"click knows no {shell}")
    click.echo(script(cli, {}, "cellnet", "_CELLNET_COMPLETE").source())


def attachment_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Attachments that begin so; nothing where no agent answers."""
    return _names(ctx, "/v1/attachments", incomplete)


def reserved_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Reservations that begin so, and attachments, which may be held."""
    return sorted({*_names(ctx, "/v1/reservations", incomplete), *attachment_names(ctx, param, incomplete)}, key=natural)


def policy_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Policies of the store that begin so: those of files cannot be deleted."""
    return _names(ctx, "/v1/policies", incomplete, is_meant=lambda each: each.at("origin").at("line").missing)


def cell_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Cells that begin so."""
    return _names(ctx, "/v1/cells", incomplete)


def app_names(ctx: click.Context, incomplete: str) -> list[str]:
    """Apps that begin so, those of the current space by their last part alone, too."""
    with suppress(Exception):
        from agent.cli.current_space import current_space

        space, names = current_space(), [each.text("app") for each in _asked(ctx, "/v1/apps").each()]
        near = [] if space is None else [name.removeprefix(f"{space}/") for name in names if name.startswith(f"{space}/")]
        return _beginning_so(near, incomplete) + _beginning_so(names, incomplete)
    return []


def route_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Routes that begin so."""
    return _names(ctx, "/v1/routes", incomplete, field="host")


def domain_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Route domains that begin so."""
    with suppress(Exception):
        return _beginning_so(_location(ctx).load().dns.route_domains, lowered(incomplete))
    return []


def host_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What stands before the domain that the line names already, in routes that begin so."""
    domain = ctx.params.get("domain") or "".join(ctx.args[1:2])  # click leaves arguments there while an option has no value yet
    below = f".{lowered(domain)}"
    return [each.removesuffix(below) for each in route_names(ctx, param, lowered(incomplete)) if each.endswith(below)]


def org_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Orgs of known apps that begin so."""
    return _parts(ctx, 0, lowered(incomplete))


def space_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Spaces of known apps that begin so; of the org alone that the line names already."""
    org = ctx.params.get("org")
    return _parts(ctx, 1, lowered(incomplete), org=None if org is None else lowered(org))


def _parts(ctx: click.Context, which: int, incomplete: str, *, org: str | None = None) -> list[str]:
    with suppress(Exception):
        names = (each.text("app").split("/") for each in _asked(ctx, "/v1/apps").each())
        return _beginning_so({name[which] for name in names if org in (None, name[0])}, incomplete)
    return []


def _names(
    ctx: click.Context, address: str, incomplete: str, *, field: str = "name",
    is_meant: Callable[["Fields"], bool] = lambda _: True,
) -> list[str]:  # fmt: skip
    with suppress(Exception):  # a shell's prompt is no place for our troubles
        return _beginning_so([each.text(field) for each in _asked(ctx, address).each() if is_meant(each)], incomplete)
    return []


def _asked(ctx: click.Context, address: str) -> "Fields":
    return _location(ctx).client().get(address)


def _location(ctx: click.Context) -> "Location":
    from agent.client.location import Location

    # click does not run the group's own function while it completes
    options = ctx.find_root().params
    return Location(root=options.get("root"), config=options.get("config"))


def _beginning_so(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted((name for name in names if name.startswith(incomplete)), key=natural)
