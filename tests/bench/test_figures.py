"""Percentiles, verdicts and ratios: what the tables say of the times."""

from datetime import UTC, datetime

import pytest

from agent.errors import InvalidInput
from bench.reports.figures import Bar, Series, Verdict, percentile
from bench.reports.report import Report


def test_a_percentile_is_a_time_that_was_measured() -> None:
    values = [float(number) for number in range(200, 0, -1)]
    assert [percentile(values, each) for each in (50, 90, 99, 100)] == [100, 180, 198, 200]
    assert percentile([7.0], 99) == 7.0


def test_no_times_have_no_percentile() -> None:
    with pytest.raises(InvalidInput):
        percentile([], 50)


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar(), Verdict.NO_BAR),
        (Bar(p50=2), Verdict.MET),
        (Bar(p50=1), Verdict.MISSED),
        (Bar(p50=2, p99=9), Verdict.MISSED),
        (Bar(p99=10), Verdict.MET),
    ],
)
def test_a_bar_is_met_if_every_percentile_it_names_is(bar: Bar, verdict: Verdict) -> None:
    assert Series("it", "here", ((1.0, 2.0, 10.0),), bar).verdict is verdict


def test_medians_are_those_of_the_runs_and_ratios_those_of_all() -> None:
    series = Series("it", "here", ((1.0, 2.0, 3.0), (6.0,)))
    floor = Series("floor", "here", ((1.0,), (1.0,)))
    report = Report("name", (series,), {"here": floor}, datetime(2026, 1, 1, tzinfo=UTC), (0.0, 0.0))
    assert series.medians == (2.0, 6.0)
    assert report.ratio(series) == 2.0
    assert report.ratio(Series("it", "elsewhere", ((1.0,),))) is None


def test_the_columns_of_the_table_are_aligned() -> None:
    series = (Series("short", "here", ((1.0,),)), Series("a longer name", "here", ((100.0,),)))
    lines = Report("name", series, {}, datetime(2026, 1, 1, tzinfo=UTC), (0.0, 0.0)).table().splitlines()[1:]
    assert {line.index(word) + len(word) for line, word in zip(lines, ("p50", "1.0", "100.0"), strict=True)} == {
        lines[0].index("p50") + 3
    }
