"""`policy list --unused`: the policies that no flow has used, and since when that is looked for."""

from collections.abc import Callable, Iterator

import click

from agent.cli.errors import print_warnings
from agent.cli.output import counted, moment, print_json, table
from agent.client.answer import Fields
from agent.client.location import Location

SEEN = (
    "a flow is seen if it is there at one of the looks, one a minute: of TCP also for two minutes after its end. "
    "A lone datagram or a connection that is reset may come and go unseen"
)


def list_unused(location: Location, since: str | None, *, row: Callable[[Fields], tuple[str, ...]], as_json: bool) -> None:
    """Print them; `row` are the cells of a policy. How far that can be believed goes to standard error."""
    from agent.config.texts import duration

    asked = {} if since is None else {"since": str(round(duration(since).total_seconds()))}
    found = location.client().get("/v1/policies/unused", **asked)
    if as_json:
        print_json(found)
        return
    heads = ("NAME", "FROM", "TO", "PORTS", "ORIGIN", "LAST USED", "LOOKED FOR SINCE")
    rows = [
        (*row(each), moment(each.text("last_used")) or "never", moment(each.text("watched_since")))
        for each in found.at("policies").each()
    ]
    click.echo(table(heads, rows))
    print_warnings(_limits(found))


def _limits(found: Fields) -> Iterator[str]:
    yield SEEN
    if found.text("elsewhere") != "0":
        policies = counted(found.text("elsewhere"), "policy", plural="policies")
        yield f"{policies} for apps without a container on this cell: ask the cells that have one"
