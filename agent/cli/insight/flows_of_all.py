"""`flows --all`: what flows on all cells, or was denied there, by pairs, as each cell has summed up its last minute."""

from collections.abc import Iterator, Mapping

import click

from agent.cli.errors import print_warnings
from agent.cli.output import joined, print_json_lines, table
from agent.client.answer import Fields
from agent.client.location import Location

HEADS = ("FROM", "TO", "PORT", "FLOWS", "CELL", "ALLOWED BY")
DENIED_HEADS = ("FROM", "TO", "PORT", "TIMES", "CELL", "WHY")


def show_all(location: Location, filters: Mapping[str, str], *, denied: bool, as_json: bool) -> None:
    """Print them; what is missing goes to standard error."""
    found = location.client().get("/v1/summaries", **filters)
    each = list(found.at("denied" if denied else "flows").each())
    if as_json:
        print_json_lines(each)
    else:
        click.echo(table(DENIED_HEADS if denied else HEADS, [_row(one, denied=denied) for one in each]))
    print_warnings(_missing(found, "more_denied" if denied else "more_flows"))


def _row(each: Fields, *, denied: bool) -> tuple[str, ...]:
    port = f"/{each.text('port')}" if each.text("port") != "0" else ""
    name, origin = ("", "") if denied else (each.text("policy"), each.text("origin"))
    why = each.text("reason") if denied else f"{name} ({origin})" if name else origin
    return (each.text("from"), each.text("to"), each.text("protocol") + port, each.text("count"), each.text("cell"), why)


def _missing(found: Fields, more: str) -> Iterator[str]:
    if silent := found.texts("silent"):
        yield f"nothing is known of {joined(silent)}: not alive, just started, an earlier version, or no right to say it"
    for each in found.at("senseless").each():
        yield f"what {each.text('cell')} says makes no sense: {each.text('why')}"
    for each in found.at("cells").each():
        if each.text(more) != "0":
            yield f"{each.text('cell')} has {each.text(more)} more that found no room in its summary"
    if found.text("left_out") != "0":
        yield f"{found.text('left_out')} pairs are not shown: ask for one app or port"
