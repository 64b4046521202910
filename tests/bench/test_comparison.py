"""Figures that stand beside each other: what a ratio is, when a bar is met, and what the table says."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.reports.comparison import Comparison, Figure, Limit, ratio, shown
from bench.reports.figures import Verdict


def test_a_ratio_is_that_of_the_rounds_not_of_the_medians() -> None:
    assert ratio((10.0, 200.0, 30.0), (10.0, 100.0, 60.0)) == 1.0  # the medians' would be 30 to 60


@pytest.mark.parametrize(
    ("limit", "found", "holds"),
    [
        (Limit(least=0.95), 0.95, True),
        (Limit(least=0.95), 0.94, False),
        (Limit(most=1.05), 1.05, True),
        (Limit(most=1.05), 1.06, False),
        (Limit(most=1.05), 1.054, True),  # as it is shown
    ],
)
def test_a_limit_holds_to_the_digits_that_are_shown(limit: Limit, found: float, holds: bool) -> None:
    assert limit.holds(found) is holds


def test_one_missed_bar_is_a_miss() -> None:
    bars = {"one": Limit(least=1.0), "other": Limit(least=1.0)}
    assert Figure("it", "here", "1/s", (1.0,), {"one": 1.0, "other": 1.1}, bars).verdict is Verdict.MET
    assert Figure("it", "here", "1/s", (1.0,), {"one": 0.9, "other": 1.1}, bars).verdict is Verdict.MISSED
    assert Figure("it", "here", "1/s", (1.0,), {"one": 0.9}).verdict is Verdict.NO_BAR


def test_a_figure_may_have_a_limit_of_its_own() -> None:
    found = Figure("it", "here", "MB", (1.0, 2.0, 9.0), limit=Limit(most=2))
    assert (found.bar, found.verdict) == ("at most 2 MB", Verdict.MET)
    assert Figure("it", "here", "MB", (1.0, 3.0, 9.0), limit=Limit(most=2)).verdict is Verdict.MISSED
    assert Figure("it", "here", "MB", (1.0,), {"one": 0.9}, {"one": Limit(least=1.0)}, Limit(most=2)).verdict is Verdict.MISSED


def test_the_table_and_the_json_have_every_ratio_under_its_name(tmp_path: Path) -> None:
    figures = (
        Figure("rate", "theirs", "1/s", (10.0, 20.0, 30.0)),
        Figure("rate", "ours", "1/s", (1000.0, 2000.0, 3000.0), {"theirs": 100.0}, {"theirs": Limit(least=1.0)}),
    )
    made = Comparison("name", figures, datetime(2026, 1, 1, tzinfo=UTC), (0.0, 0.0))
    _, head, theirs, ours = made.table().splitlines()
    assert "x theirs" in head
    assert "x theirs at least 1" in ours
    assert (theirs.split()[2:6], ours.split()[2:6]) == (["3", "10.00", "20.00", "30.00"], ["3", "1,000", "2,000", "3,000"])
    written = json.loads(made.write(tmp_path).read_text())["figures"]
    assert [each["beside"] for each in written] == [{}, {"theirs": 100.0}]
    assert [each["verdict"] for each in written] == ["", "met"]


def test_a_figure_is_shown_with_the_digits_that_matter() -> None:
    assert [shown(each) for each in (1.234, 12.345, 123.45, 1234.5)] == ["1.23", "12.35", "123.5", "1,234"]
