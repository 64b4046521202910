"""Limits of an attachment: how they are written, and what is said of wrong ones."""

import json

import pytest

from agent.model.limits import as_written, limits_of, parse_rate
from dataplane.state import Limits
from tests.cli.conftest import Cli
from tests.testlib.fakes.cell import FakeCell

ATTACH = ("attach", "--app", "acme/shop/api", "--netns", "/run/netns/x")
ALL = ("--limit-rate", "100mbit", "--limit-connections", "200", "--limit-new", "50/s")


@pytest.mark.usefixtures("agent")
def test_limits_are_asked_for_and_shown_where_there_are_any(cellnet: Cli) -> None:
    cellnet(*ATTACH, "--name", "free")
    assert "LIMITS" not in cellnet("ps").out
    made = json.loads(cellnet(*ATTACH, "--name", "bound", *ALL, "--json").out)
    assert made["limits"] == {"rate": "100mbit", "connections": 200, "new": 50}
    cellnet(*ATTACH, "--name", "slow", "--limit-rate", "1500kbit")
    rows = cellnet("ps").out.splitlines()
    assert rows[0].endswith("TLS    LIMITS")
    assert [row.partition("ready")[2].strip() for row in rows[1:]] == ["100mbit, 200 open, 50/s new", "-", "1500kbit"]


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--limit-rate", "100"), "'100' is not a rate; hint: write a whole number and kbit, mbit or gbit, e.g. 100mbit"),
        (("--limit-rate", "1.5mbit"), "'1.5mbit' is not a rate"),
        (("--limit-rate", "99kbit"), "a rate of 99kbit is out of range; hint: use 100kbit to 30gbit"),
        (("--limit-rate", "31gbit"), "a rate of 31gbit is out of range"),
        (("--limit-connections", "0"), "a limit of 0 open connections is out of range; hint: use 1 to 2000"),
        (("--limit-connections", "2001"), "a limit of 2001 open connections is out of range"),
        (("--limit-new", "50"), "'50' is not so many a second; hint: write a whole number and /s, e.g. 50/s"),
        (("--limit-new", "0/s"), "'0/s' is not so many a second"),
        (("--limit-new", "10001/s"), "a limit of 10001 new connections a second is out of range; hint: use 1/s to 10000/s"),
    ],
)
def test_a_wrong_limit_is_wrong_usage_that_says_what_to_write(
    cellnet: Cli, cell: FakeCell, words: tuple[str, str], said: str
) -> None:
    done = cellnet(*ATTACH, *words)
    assert done.code == 2
    assert said in done.err
    assert not cell.views


@pytest.mark.parametrize("text", ["100kbit", "1500kbit", "999mbit", "1gbit", "30gbit"])
def test_a_rate_is_shown_as_it_was_written(text: str) -> None:
    assert as_written(Limits(rate=parse_rate(text)))["rate"] == text


def test_without_limits_there_are_none() -> None:
    assert limits_of(rate=None, connections=None, new=None) == Limits()
    assert set(as_written(Limits()).values()) == {None}
