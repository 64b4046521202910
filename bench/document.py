"""The results in docs/performance.md and README.md, written from the JSON of the scripts: no figure is typed by hand.

`python -m bench.document` takes bench/results, keeps it as bench/published, writes between `<!-- bench: NAME -->` and
`<!-- end -->` what NAME stands for, and draws the chart. A test compares all of that with bench/published.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TypeAlias, cast

import click

from agent.errors import InvalidInput
from bench.reports import chart
from bench.reports.comparison import BESIDE, shown
from bench.reports.report import RESULTS

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "bench" / "published"
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")
CHART = ROOT / "docs" / "performance.svg"
BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 128
TIMES = ("p50", "p90", "p99", "max")
SPREAD = ("p10", "p50", "p90")
VERDICTS = {"met": "met", "missed": "**missed**", "": ""}

Row: TypeAlias = Mapping[str, "str | float | Mapping[str, float]"]


@dataclass(frozen=True, slots=True)
class Script:
    """What one script has written: `rows` of times ("series") or of figures that stand beside each other ("figures")."""

    name: str
    started: str
    machine: str
    load: Sequence[float]
    unit: str
    rows: Sequence[Row]

    @property
    def compares(self) -> bool:
        """Whether it is the second kind."""
        return any("beside" in row for row in self.rows)

    def row(self, what: str, setting: str) -> Row:
        """Raises InvalidInput where it was not measured."""
        for row in self.rows:
            if (row["what"], row["setting"]) == (what, setting):
                return row
        raise InvalidInput(f"{self.name}.json has no '{what}' of '{setting}'", hint="run the scripts with their defaults")


Scripts: TypeAlias = Mapping[str, Script]


def read(folder: Path) -> Scripts:
    """All results of a folder."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        text = json.loads(path.read_text())
        rows = cast("Sequence[Row]", text.get("series") or text.get("figures") or ())
        found[path.stem] = Script(path.stem, text["started"], text["machine"], text["load"], text.get("unit", ""), rows)
    return found


def written(document: str, scripts: Scripts) -> str:
    """A document with its blocks made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}{_block(found[2], scripts)}{found[3]}", document)


def drawn(scripts: Scripts) -> str:
    """The chart."""
    rows = scripts["datapath"].rows
    return chart.svg([chart.Point(_text(row, "what"), _text(row, "setting"), _text(row, "unit"), _number(row, "p50"))
                      for row in rows])  # fmt: skip


def _block(name: str, scripts: Scripts) -> str:
    if name == "bars":
        return _markdown(
            ("what", "setting", "bar", "measured", ""), (line for each in scripts.values() for line in _bars(each))
        )
    if name == "key":
        return "".join(f"{fill(line, WIDTH, initial_indent='- ', subsequent_indent='  ')}\n" for line in _key(scripts))
    if name not in scripts:
        raise InvalidInput(f"there is no result '{name}'", hint=f"run bench_{name}")
    return f"{_origin(scripts[name])}\n\n{_table(scripts[name])}"


def _origin(script: Script) -> str:
    unit = f" In {script.unit}." if script.unit else ""
    before, after = script.load
    return f"{script.started[:10]}, {script.machine}, load average {before:.1f} before and {after:.1f} at the end.{unit}"


def _table(script: Script) -> str:
    names = list(dict.fromkeys(name for row in script.rows for name in _beside(row)))
    if script.compares:
        head = ("what", "setting", "n", "p10", "median", "p90", "unit", *(BESIDE + name for name in names), "")
        return _markdown(head, (_of_figure(row, names) for row in script.rows))
    return _markdown(("what", "setting", "n", *TIMES, "x by hand", "bar", ""), map(_of_times, script.rows))


def _of_figure(row: Row, names: Iterable[str]) -> Iterator[str]:
    yield from (_text(row, "what"), _text(row, "setting"), _text(row, "count"))
    yield from (shown(_number(row, each)) for each in SPREAD)
    yield _text(row, "unit")
    yield from (_ratio(_beside(row).get(name, 0.0)) for name in names)
    yield VERDICTS[_text(row, "verdict")]


def _of_times(row: Row) -> Iterator[str]:
    yield from (_text(row, "what"), _text(row, "setting"), _text(row, "count"))
    yield from (f"{_number(row, each):,.1f}" for each in TIMES)
    yield from (_ratio(_number(row, "times_floor")), _text(row, "bar"), VERDICTS[_text(row, "verdict")])


def _bars(script: Script) -> Iterator[Sequence[str]]:
    """One line for each bar in each setting; of several rows under one bar the worst."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in script.rows:
        if _text(row, "bar"):
            what = _text(row, "what") if script.compares else _text(row, "what").partition(" -> ")[0]
            groups.setdefault((what, _text(row, "setting"), _text(row, "bar")), []).append(row)
    for (what, setting, bar), rows in groups.items():
        verdict = "missed" if any(_text(row, "verdict") == "missed" for row in rows) else "met"
        yield what, setting, bar, _worst(rows, bar), VERDICTS[verdict]


def _worst(rows: Sequence[Row], bar: str) -> str:
    if "beside" in rows[0]:
        beside = _beside(rows[0])
        if BESIDE not in bar:
            return f"{shown(max(_number(row, 'p50') for row in rows))} {_text(rows[0], 'unit')}"
        return ", ".join(f"{BESIDE}{name} {ratio:.2f}" for name, ratio in beside.items() if f"{BESIDE}{name} " in bar)
    return ", ".join(f"{each} {max(_number(row, each) for row in rows):,.1f}" for each in TIMES if f"{each} " in bar)


def _key(scripts: Scripts) -> Iterator[str]:
    """The three numbers of the README."""
    policy, path, tls = scripts["policy"], scripts["datapath"], scripts["tls"]
    few, many = (policy.row("policy file renamed into place -> connects", f"{count} rules around, nft")
                 for count in ("1,000", "20,000"))  # fmt: skip
    yield (
        f"a policy file that is renamed into place is in force after {_number(few, 'p50'):.0f} ms among 1,000 rules and after "
        f"{_number(many, 'p50'):.0f} ms among 20,000 (median; 99 of 100 within {_number(many, 'p99'):.0f} ms)"
    )
    ours = "cellnet, 20,000 rules, nft"
    latency, calls = (_beside(path.row(what, ours)) for what in ("request and answer", "new connections"))
    yield (
        f"with 20,000 rules a request takes {latency['cellnet, few rules']:.2f} times what it takes with 10, and "
        f"{latency['ten-rule firewall']:.2f} times what it takes behind a ten-rule firewall; there are "
        f"{calls['cellnet, few rules']:.2f} times as many new connections a second as with 10 rules"
    )
    whats = ("new TLS connections, each with a request", "throughput of large answers")
    fresh, large = (_beside(tls.row(what, "61443")) for what in whats)
    yield (
        f"port 61443 takes {fresh['HAProxy']:.2f} times as many new TLS connections a second as HAProxy on the same processor, "
        f"and {fresh['nginx']:.2f} times as many as nginx; of large answers it passes on {large['HAProxy']:.2f} and "
        f"{large['nginx']:.2f} times as many bytes"
    )


def _markdown(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Empty cells are one space wide."""
    lines = (head, ["---"] * len(head), *rows)
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|\n" for line in lines)


def _text(row: Row, name: str) -> str:
    return str(row.get(name, ""))


def _number(row: Row, name: str) -> float:
    return float(cast("float", row[name]))


def _beside(row: Row) -> Mapping[str, float]:
    return cast("Mapping[str, float]", row.get("beside", {}))


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value else ""


@click.command()
@click.option("--results", default=RESULTS, type=click.Path(path_type=Path, file_okay=False, exists=True), help="What to take.")
def document(results: Path) -> None:
    """Publish results: keep them, and write the documents and the chart from them."""
    PUBLISHED.mkdir(exist_ok=True)
    for path in results.glob("*.json"):
        shutil.copy(path, PUBLISHED)
    scripts = read(PUBLISHED)
    for each in DOCUMENTS:
        each.write_text(written(each.read_text(), scripts))
    CHART.write_text(drawn(scripts))


if __name__ == "__main__":
    document()
