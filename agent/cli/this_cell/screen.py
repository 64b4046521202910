"""The screen of `cellnet status`: rows of facts, then what is wrong, folded to the terminal's width and cut to its height.

Pure. Without a terminal nothing is folded or left out, so that a pipe (and `--all`) gets everything.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import click

from agent.cli.output import counted, joined, moment
from agent.client.answer import Fields

NARROWEST = 32  # columns; below that there is nothing to be done
LABEL = 15  # columns of a row's name, indentation and space included
LONGEST = 8  # lines of one problem, so that no other is pushed off the screen by Envoy's own words
MORE = "cellnet status --all"
OF_A_KIND = 3  # problems with one hint that come before the first of other kinds


@dataclass(frozen=True, slots=True)
class Terminal:
    """In columns and lines."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Row:
    """`bad` is shown in red."""

    name: str
    text: str
    bad: bool = False


def screen(found: Fields, terminal: Terminal | None) -> list[str]:
    """The lines, styled; `found` is what `GET /v1/status` answers."""
    width = None if terminal is None else max(terminal.width, NARROWEST)
    problems = list(found.at("problems").each())
    lines = [_verdict(found, problems), *(line for row in rows(found) for line in _row(row, width))]
    blocks = [_problem(each, width) for each in (problems if terminal is None else _mixed(problems))]
    room = None if terminal is None else terminal.height - len(lines) - 1  # the prompt comes after
    return lines + _fitting(blocks, room, width)


def _verdict(found: Fields, problems: Sequence[Fields]) -> str:
    if found.flag("ok"):
        return click.style("all is well", fg="green")
    return click.style(f"something is wrong: {counted(str(len(problems)), 'problem')}", fg="red", bold=True)


def _mixed(problems: Sequence[Fields]) -> list[Fields]:
    """The first few of each kind, then the others: a thousand of one kind must not push another off the screen."""
    known = Counter[tuple[str, str]]()
    first, others = list[Fields](), list[Fields]()
    for each in problems:
        kind = each.text("area"), each.text("hint")
        known[kind] += 1
        (first if known[kind] <= OF_A_KIND else others).append(each)
    return first + others


def rows(found: Fields) -> Iterator[Row]:
    """The facts, one by one."""
    cell, store = found.at("cell"), found.at("store")
    yield Row("cell", f"{cell.text('name')}, {cell.text('subnet')} of {cell.text('overlay')}, MTU {cell.text('mtu')}")
    yield Row("agent", f"{cell.text('version')}, pid {cell.text('pid')}, since {moment(cell.text('started'))}")
    yield _containers(cell.text("attachments"), found)
    yield from _drain(found.at("drain"))
    if found.text("early_addresses") != "0":
        yield Row("addresses", f"{found.text('early_addresses')} given early{_last(found.at('last_early_addresses'))}")
    yield _policies(found.at("policies"))
    firewall = found.at("firewall")
    yield Row("firewall", f"{firewall.text('backend')}, {counted(firewall.text('rules'), 'rule')}")
    yield _envoy(found.at("envoy"))
    yield _dns(found.at("dns"))
    yield from _hosts(found.at("hosts"))
    yield from _certificates(found.at("ca"))
    yield from _rotation(found.at("rotation"))
    yield Row("converged", _converged(found.at("last_apply")))
    yield Row("repairs", found.text("repairs") + _last(found.at("last_repairs")))
    if found.text("cuts") != "0":
        yield Row("cuts", found.text("cuts") + _last(found.at("last_cuts")))
    yield Row("store", f"{store.text('kind')} at {store.text('location')}")
    yield _peers(list(found.at("peers").each()))
    yield from _mutual_tls(found.at("mutual_tls"))
    yield from _refused(found.at("refusals"))
    yield from _limited(list(found.at("limited").each()))
    yield from _denied(found.at("denied"))
    if problem := found.at("summary").text("problem"):
        yield Row("summary", f"not published for other cells: {problem}")


def _denied(found: Fields) -> Iterator[Row]:
    """Of the last minute, if there was any."""
    if found.text("last_minute") not in ("", "0"):
        yield Row("denied", f"{found.text('last_minute')} in the last minute: {joined(found.texts('pairs'))}")
    if found.text("audited") not in ("", "0"):
        yield Row("audit", f"{found.text('audited')} passed in the last minute: {joined(found.texts('audits'))}")


def _peers(found: Sequence[Fields]) -> Row:
    """How many there are, and by name those that need a look."""
    if not found:
        return Row("peers", "none")
    dead = [each.text("name") for each in found if each.at("alive_since").missing]
    unwell = [each.text("name") for each in found if each.text("tunnel") not in ("", "answers")]
    silent = [name for name in unwell if name not in dead]
    text = str(len(found))
    text += f", not alive: {joined(dead)}" if dead else ""
    text += f", tunnel does not answer as it should: {joined(silent)}" if silent else ""
    text += "" if dead or silent else ", all alive"
    drained = [each.text("name") for each in found if each.flag("drained")]
    return Row("peers", text + (f", drained: {joined(drained)}" if drained else ""), bad=bool(silent))


def _mutual_tls(found: Fields) -> Iterator[Row]:
    """The mode, if there is one, and what is plain in it or still in tunnels after it."""
    name, mode, is_in_force = "mutual TLS", found.text("mode"), found.flag("in_force")
    if mode == "none":
        if not is_in_force:
            yield Row(name, "none" + _still_open(found))
    elif not is_in_force:
        yield Row(name, f"{mode}, not in force yet", bad=True)
    else:
        plain, flows = found.texts("plain_cells"), found.at("plain_flows")
        text = mode + ("" if flows.missing else f"; {counted(found.text('plain_flows'), 'open connection')} in plain")
        text += f"; cells without tunnels: {joined(plain)}" if plain else ""
        yield Row(name, text + ("; UDP, published ports and the host's own calls stay plain" if mode == "strict" else ""))


def _still_open(found: Fields) -> str:
    if found.at("tunnels").missing:
        return "; tunnels are still served"
    tunnels, calls = counted(found.text("tunnels"), "tunnel"), counted(found.text("calls"), "call")
    return f"; still served, until unused for a while: {tunnels} to here, {calls} from here"


def _refused(found: Fields) -> Iterator[Row]:
    """What Envoy has refused, if anything."""
    if found.text("count") in ("", "0"):
        return
    text = f"{counted(found.text('count'), 'call')} since the agent's start"
    for last in found.at("last").each():
        to = last.text("app") or last.text("destination")
        port = "" if last.text("port") == "0" else f" port {last.text('port')}"
        text += f"; the last at {moment(last.text('at'))}: {last.text('source')} to {to}{port}: {last.text('reason')}"
        break
    yield Row("refused", text)


def _limited(found: Sequence[Fields]) -> Iterator[Row]:
    """Containers that have come to their own limits, if any."""
    words = (("new", "new too many"), ("connections", "open too many"), ("received", "packets in"), ("sent", "packets out"))
    said = []
    for each in found:
        counts = [f"{each.text(name)} {word}" for name, word in words if each.text(name) != "0"]
        said.append(f"{each.text('name')} ({joined(counts)})")
    if said:
        yield Row("limited", f"refused or dropped: {joined(said)}")


def _containers(attached: str, found: Fields) -> Row:
    refused = found.text("refused_attaches")
    more = "" if refused == "0" else f", {counted(refused, 'attach', plural='attaches')} refused since the agent's start"
    waiting = found.at("names").texts("waiting")
    served = f", not served yet: {joined(waiting)}" if waiting else ""
    return Row("containers", attached + served + more + _last(found.at("last_refused_attaches")))


def _drain(found: Fields) -> Iterator[Row]:
    """What is on its way out before maintenance, if anything."""
    if found.missing:
        return
    waiting = [f"{each.text('name')} ({each.text('connections') or 'not counted yet'})" for each in found.at("waiting").each()]
    left = f"waits for open connections of {joined(waiting)}" if waiting else "nothing is left"
    cell = f"the cell, since {moment(found.text('since'))}, no attach is taken; " if found.flag("cell") else ""
    yield Row("drain", f"{cell}{left}; cellnet drain --undo takes it back")


def _last(events: Fields) -> str:
    """The newest of them; `--json` has more."""
    for each in events.each():
        return f"; the last at {moment(each.text('at'))}: {each.text('what')}"
    return ""


def _policies(found: Fields) -> Row:
    files = counted(found.text("files"), "file")
    text = f"{found.text('from_files')} from {files}, {found.text('from_store')} from the store"
    if (ended := found.text("ended")) not in ("", "0"):
        text += f", {ended} of them ended"
    bad = len(found.texts("bad_files"))
    return Row("policies", text + (f", {counted(str(bad), 'bad file')}" if bad else ""), bad=bool(bad))


def _envoy(found: Fields) -> Row:
    if not found.flag("connected"):
        return Row("envoy", "not connected", bad=True)
    text = f"{found.text('version') or 'unknown version'}, connected, {counted(found.text('listeners'), 'listener')}"
    refused = len(found.texts("rejected"))
    return Row("envoy", text + (f", {counted(str(refused), 'resource')} refused" if refused else ""), bad=bool(refused))


def _dns(found: Fields) -> Row:
    if not found.flag("answers"):
        return Row("dns", f"does not answer at {found.text('address')}", bad=True)
    text = f"answers at {found.text('address')}, names of {counted(found.text('instances'), 'instance')}"
    upstreams, left_out = found.texts("upstreams"), found.texts("left_out")
    text += f", asks {joined(upstreams)}" if upstreams else ""
    return Row("dns", text + (f"; not asked: {joined(left_out)}" if left_out else ""))


def _hosts(found: Fields) -> Iterator[Row]:
    """Names of the outside that containers have asked for, if any."""
    if found.text("known") not in ("", "0"):
        known = counted(found.text("known"), "name") + " of the outside known"
        is_asked = found.flag("connected") or not found.flag("wanted")
        yield Row("hosts", known if is_asked else f"{known}, none asked for at present", bad=not is_asked)


def _certificates(found: Fields) -> Iterator[Row]:
    if found.missing:
        yield Row("ca", "none", bad=True)
        return
    yield Row("ca", f"cell until {found.text('cell_not_after')[:10]}, root until {found.text('root_not_after')[:10]}")
    yield Row("expiry", f"first certificate at {moment(found.text('next_expiry'))}")


def _rotation(found: Fields) -> Iterator[Row]:
    if not found.missing:
        awaited = found.texts("awaited")
        text = f"of the root, at step '{found.text('step')}'"
        yield Row("rotation", text + (f", awaited: {joined(awaited)}" if awaited else ""))


def _converged(found: Fields) -> str:
    if found.missing:
        return "nothing had to be changed since the agent's start"
    return f"{moment(found.text('at'))}, {counted(found.text('changes'), 'change')} in {found.text('milliseconds')} ms"


def _row(row: Row, width: int | None) -> Iterator[str]:
    first, *others = fold(f"  {row.name:<{LABEL - 3}} {row.text}", width, indent=LABEL)
    name, text = first[:LABEL], first[LABEL:]
    yield name + (click.style(text, fg="red") if row.bad and text else text)
    yield from (click.style(line, fg="red") if row.bad else line for line in others)


def _problem(problem: Fields, width: int | None) -> list[str]:
    """Blank, `area: what`, its further lines, hint."""
    area = problem.text("area") + ":"
    first, *more = problem.text("what").rstrip().splitlines() or [""]
    lines = [*fold(f"{area} {first}", width, indent=2), *_below(more, width)]
    if problem.text("hint"):
        lines += fold(f"  hint: {problem.text('hint')}", width, indent=2)
    if width is not None and len(lines) > LONGEST:
        lines[LONGEST - 1 :] = ["  …"]
    return ["", lines[0].replace(area, click.style(area, fg="red"), 1), *lines[1:]]


def _below(lines: Sequence[str], width: int | None) -> Iterator[str]:
    """Indented; a line of a file with its caret below is cut around the caret, since folding would part the two."""
    caret = ""
    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        if caret:
            caret = ""
        elif following.strip() == "^" and width is not None and columns(f"  {line}") > width:
            line, caret = around(line, following.index("^"), width - 2)
            yield from (f"  {line}", f"  {caret}")
        else:
            yield from fold(f"  {line}", width, indent=2)


def around(line: str, place: int, width: int) -> tuple[str, str]:
    """The part of a line around one of its characters, and the caret for it."""
    start = max(0, min(place - width // 2, len(line) - width))
    while start < place and columns(line[start : place + 1]) > width:
        start += 1
    end = len(line)
    while columns(line[start:end]) > width:
        end -= 1
    return line[start:end], " " * columns(line[start:place]) + "^"


def _fitting(blocks: Sequence[Sequence[str]], room: int | None, width: int | None) -> list[str]:
    """As many blocks as there is room for, one at least; how many more there are."""
    shown: list[str] = []
    for number, block in enumerate(blocks):
        left = len(blocks) - number
        reserved = 2 if left > 1 else 0
        if room is not None and shown and len(shown) + len(block) + reserved > room:
            return [*shown, "", *fold(f"and {counted(str(left), 'more problem')}: {MORE}", width, indent=2)]
        shown += block
    return shown


def fold(text: str, width: int | None, *, indent: int) -> list[str]:
    """Lines of at most `width` columns, broken at spaces where there are any; all but the first are indented."""
    if width is None:
        return [text]
    indent = indent if width >= 3 * indent else 2
    lines: list[str] = []
    while columns(text) > width:
        end = _fitting_end(text, width)
        blank = text.rfind(" ", len(text) - len(text.lstrip()), end + 1)
        cut = blank if blank > indent else end
        lines.append(text[:cut].rstrip())
        text = " " * indent + text[cut:].lstrip()
    return [*lines, text]


def _fitting_end(text: str, width: int) -> int:
    used = 0
    for place, char in enumerate(text):
        used += columns(char)
        if used > width:
            return place
    return len(text)


def columns(text: str) -> int:
    """How wide a terminal shows it: two columns for East Asian letters, none for what combines with the letter before."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)
