"""`flows`: what flows and what was denied, now or as it happens."""

import time
from collections.abc import Iterator, Mapping

import click

from agent.cli.app_names import PARTY
from agent.cli.output import json_option, moment, print_json_lines, table
from agent.client.answer import Fields
from agent.client.location import Location

POLL = 0.2  # seconds between two questions
DENIED_HEADS = ("AT", "FROM", "TO", "PORT", "WHY")
HEADS = ("FROM", "TO", "PORT", "STATE", "SENT", "RECEIVED", "AGE", "ALLOWED BY")
UNITS = ("B", "KB", "MB", "GB", "TB")
Filters = Mapping[str, str]


@click.command()
@click.option("--denied", is_flag=True, help="What was refused or dropped, and why.")
@click.option("--follow", "-f", is_flag=True, help="Go on as it happens, until interrupted.")
@click.option("--all", "of_all", is_flag=True, help="Of all cells, summed up by pairs: the last minute of each.")
@click.option("--app", type=PARTY, metavar="APP", help="Only what APP sends, or what is for it.")
@click.option("--to", type=PARTY, metavar="APP", help="Only what is for APP.")
@click.option("--port", metavar="PORT", help="Only this port, as tcp/8080.")
@json_option
@click.pass_obj
def flows(
    location: Location, denied: bool, follow: bool, of_all: bool, app: str | None, to: str | None, port: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show which apps reach which on this cell, and what allows it.

    With --follow: what begins, ends, is cut and is refused, as it happens. With --denied: what was refused lately. A flood is
    shown in part. With --all: of all cells, as each has summed it up. With --json each is a line.
    """
    filters = {name: given for name, given in (("app", app), ("to", to), ("port", port)) if given is not None}
    if of_all:
        if follow:
            raise click.UsageError("--all shows what cells have summed up, and does not follow it")
        from agent.cli.insight.flows_of_all import show_all

        show_all(location, filters, denied=denied, as_json=as_json)
    elif denied:
        _denied(location, filters, follow=follow, as_json=as_json)
    elif follow:
        _follow(location, filters, as_json=as_json)
    else:
        _present(location, filters, as_json=as_json)


def _present(location: Location, filters: Filters, *, as_json: bool) -> None:
    found = location.client().get("/v1/flows", **filters)
    each = list(found.at("flows").each())
    if as_json:
        print_json_lines(each)
        return
    click.echo(table(HEADS, list(map(_row, each))))
    if left_out := int(found.text("left_out")):
        click.echo(f"{left_out} more are not shown: ask for one app or port", err=True)
    if not found.flag("whole"):
        click.echo("the kernel has more flows than one look reads: some are missing", err=True)
    if not found.flag("counts_octets"):
        click.echo("what is sent is not counted: net.netfilter.nf_conntrack_acct is 0", err=True)


def _follow(location: Location, filters: Filters, *, as_json: bool) -> None:
    for each in location.client().follow("/v1/events", **filters):
        if as_json:
            print_json_lines([each])
            continue
        kind = each.text("kind")
        if kind == "following":
            if notice := each.text("notice"):
                click.echo(notice, err=True)
        elif kind == "lost":
            count = f"{each.text('dropped')} not told: " if each.text("dropped") != "0" else ""
            click.echo(f"{count}{each.text('why')}", err=True)
        else:
            click.echo("  ".join(_event(each)))


def _event(each: Fields) -> tuple[str, ...]:
    kind = each.text("kind")
    if kind in ("refused", "audited"):
        at, *refused = _denied_row(each)
        return (at, kind.ljust(7), *refused)
    times = f"{each.text('count')} connections" if each.text("count") != "1" else ""
    rest = filter(None, (times, _allowed_by(each)))
    return (moment(each.text("at")), kind.ljust(7), _end(each, "from"), _end(each, "to"), _port(each), *rest)


def _row(each: Fields) -> tuple[str, ...]:
    way = f"{each.text('state')}, tunnel" if each.flag("tunnel") else each.text("state")
    octets = [_octets(each.text(name)) for name in ("sent", "received")]
    return (_end(each, "from"), _end(each, "to"), _port(each), way, *octets, _age(each.text("seconds")), _allowed_by(each))


def _allowed_by(each: Fields) -> str:
    name, origin = each.text("policy"), each.text("origin")
    by = f"{name} ({origin}){', in audit' * each.flag('audit')}" if name else origin
    return f"{by}; by `explain --try`" if each.flag("tried") else by


def _octets(text: str) -> str:
    """`1234567` -> `1.2 MB`."""
    if not text:
        return ""
    value = float(text)
    for unit in UNITS:
        if value < 1000 or unit == UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == UNITS[0] or value >= 100 else f"{value:.1f} {unit}"


def _age(text: str) -> str:
    """`75` -> `1m15s`."""
    if not text:
        return ""
    minutes, seconds = divmod(int(text), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


def _denied(location: Location, filters: Filters, *, follow: bool, as_json: bool) -> None:
    for found in _answers(location, filters, follow=follow):
        each = list(found.at("denied").each())
        if as_json:
            print_json_lines(each)
        elif follow:
            for one in each:
                click.echo("  ".join(_denied_row(one)))
        else:
            click.echo(table(DENIED_HEADS, list(map(_denied_row, each))))


def _answers(location: Location, filters: Filters, *, follow: bool) -> Iterator[Fields]:
    """One, or one after the other, each with what is new. What was kept no longer when it was asked for is told."""
    client, after = location.client(), 0
    while True:
        found = client.get("/v1/denied", **filters, after=str(after))
        number = int(found.text("number"))
        if number < after:  # another agent, which counts anew
            after = 0
            continue
        yield found
        if not follow:
            return
        after = number
        time.sleep(POLL)


def _denied_row(each: Fields) -> tuple[str, ...]:
    why = f"{each.text('reason')} {each.text('words')}".rstrip()
    return (moment(each.text("at")), _end(each, "from"), _end(each, "to"), _port(each), why)


def _port(each: Fields) -> str:
    return each.text("protocol") + (f"/{each.text('port')}" if each.text("port") != "0" else "")


def _end(each: Fields, end: str) -> str:
    """An app with its address; the address alone where it is no app's."""
    name, address = each.text(end), each.text(f"{end}_address")
    return name if name == address else f"{name} ({address})"
