"""The documents and the chart say what the scripts have found, and nothing that was typed by hand."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.errors import InvalidInput
from bench import document
from bench.document import CHART, DOCUMENTS, PUBLISHED, Script, drawn, read, written
from bench.reports.chart import Point, svg

SVG = "{http://www.w3.org/2000/svg}"
BAR = "p50 10, p99 50"


def times(setting: str, p50: float, *, verdict: str) -> dict[str, "str | float"]:
    """A row as bench/reports/report.py writes it."""
    percentiles = {"p50": p50, "p90": p50 + 1, "p99": p50 + 2, "max": p50 + 3}
    return {"what": "it -> happens", "setting": setting, "count": 3, **percentiles, "times_floor": 2.5, "bar": BAR,
            "verdict": verdict}  # fmt: skip


def script(*rows: dict[str, "str | float"]) -> dict[str, Script]:
    """One script that has measured these."""
    return {"some": Script("some", "2026-01-02T03:04:05", "a machine", (0.5, 1.25), "milliseconds", rows)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_has_the_published_figures(path: Path) -> None:
    assert written(path.read_text(), read(PUBLISHED)) == path.read_text()


def test_the_chart_is_drawn_from_the_published_figures() -> None:
    assert drawn(read(PUBLISHED)) == CHART.read_text()


def test_everything_published_is_in_the_document() -> None:
    told = {name for _, name, _ in document.BLOCK.findall(DOCUMENTS[0].read_text())}
    assert read(PUBLISHED).keys() <= told


def test_a_block_is_written_anew_and_the_rest_left_alone() -> None:
    text = "before\n<!-- bench: some -->\nold\n<!-- end -->\nafter\n"
    found = written(text, script(times("here", 7.0, verdict="met")))
    assert found == (
        "before\n<!-- bench: some -->\n2026-01-02, a machine, load average 0.5 before and 1.2 at the end. In milliseconds.\n\n"
        "| what | setting | n | p50 | p90 | p99 | max | x by hand | bar | |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| it -> happens | here | 3 | 7.0 | 8.0 | 9.0 | 10.0 | 2.50 | {BAR} | met |\n"
        "<!-- end -->\nafter\n"
    )


def test_a_bar_of_the_figure_itself_stands_with_the_figure() -> None:
    row: Mapping[str, str | float | Mapping[str, float]] = {
        "what": "memory",
        "setting": "here",
        "unit": "MB",
        "p50": 12.34,
        "beside": {},
        "bar": "at most 13 MB",
        "verdict": "met",
    }
    found = written("<!-- bench: bars -->\n<!-- end -->", {"some": Script("some", "2026", "a machine", (0.0, 0.0), "", (row,))})
    assert "| memory | here | at most 13 MB | 12.34 MB | met |" in found.splitlines()


def test_of_several_rows_under_one_bar_the_worst_is_shown() -> None:
    rows = (times("here", 7.0, verdict="met"), times("here", 70.0, verdict="missed"), times("there", 1.0, verdict="met"))
    found = written("<!-- bench: bars -->\n<!-- end -->", script(*rows)).splitlines()[3:-1]
    assert found == [
        f"| it | here | {BAR} | p50 70.0, p99 72.0 | **missed** |",
        f"| it | there | {BAR} | p50 1.0, p99 3.0 | met |",
    ]


def test_a_block_without_a_result_is_refused() -> None:
    with pytest.raises(InvalidInput, match="there is no result 'other'"):
        written("<!-- bench: other -->\n<!-- end -->", script())


def points(*, flat: float = 300.0) -> list[Point]:
    """Ours is level, a list grows."""
    rows = [("bare path", 10.0), ("cellnet, 10 rules, nft", 20.0), ("cellnet, 20,000 rules, nft", 20.0)]
    rows += [(f"{name}, {count} rules, {backend}", flat)
             for name, backend in (("flat list", "nft"), ("flat list", "legacy"), ("flat list behind conntrack", "nft"))
             for count in ("10", "20,000")]  # fmt: skip
    return [Point("latency", setting, "µs", value) for setting, value in rows]


def test_the_chart_has_a_line_for_each_way_and_what_is_equal_is_level() -> None:
    drawing = ET.fromstring(svg(points()))
    heights = {each.get("cy") for each in drawing.iter(f"{SVG}circle") if each.get("class") == "ours"}
    assert len(heights) == 1
    assert {each.get("class") for each in drawing.iter(f"{SVG}circle")} == {"ours", "behind", "legacy", "flat"}
    texts = {each.text for each in drawing.iter(f"{SVG}text")}
    assert {"latency, µs", "rules", "10", "20,000", "300", "cellnet (nft)", "bare path"} <= texts


def test_what_takes_longer_stands_higher() -> None:
    drawing = ET.fromstring(svg(points()))
    height = {each.get("class"): float(each.get("cy", "")) for each in drawing.iter(f"{SVG}circle")}
    assert height["flat"] < height["ours"]  # SVG counts downwards


def test_without_a_second_number_of_rules_there_is_nothing_to_draw() -> None:
    with pytest.raises(InvalidInput, match="was not measured for a chart"):
        svg([each for each in points() if "20,000" not in each.setting])
