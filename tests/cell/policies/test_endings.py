"""A policy with `until` ends by itself on a real cell, cuts what it had allowed, and stays ended whatever the clock does."""

import shlex
from collections.abc import Iterator
from datetime import timedelta
from itertools import count

import pytest

from agent.policy.language.terms import written_until
from lab.cell import Cell
from tests.testlib.agents.clocked import ClockedCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.documents import blocks, commands
from tests.testlib.failures import terminate
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB
from tests.testlib.status import reports

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
BEHIND = "policies with `until` allow nothing"
STEPS = count()


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return ClockedCell


@pytest.fixture
def ahead(cell: CellUnderTest) -> Iterator[timedelta]:
    """What the clock is ahead of ours when a test begins: more than in any test before, since what was seen is kept."""
    found = next(STEPS) * 5 * HOUR
    lab_of(cell).set_clock(found)
    yield found
    lab_of(cell).set_clock(found + 4 * HOUR)


def lab_of(cell: CellUnderTest) -> ClockedCell:
    assert isinstance(cell.lab, ClockedCell)
    return cell.lab


def test_what_it_allowed_is_cut_at_its_end_and_what_another_policy_allows_too_is_not(
    cell: CellUnderTest, ahead: timedelta
) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    until = written_until(lab_of(cell).now().replace(microsecond=0) + HOUR)
    cell.policy_file("a.yaml", f"policies: [{{from: {WEB}, to: {API}, tcp: 9000-9001, until: {until}}}]\n")
    cell.policy_file("b.yaml", f"policies: [{{from: {WEB}, to: {API}, tcp: 9001}}]\n")
    ends, kept = pair(web, api, 9000), pair(web, api, 9001)
    lab_of(cell).set_clock(ahead + HOUR - 50 * SECOND)
    assert is_alive(*ends)
    lab_of(cell).set_clock(ahead + HOUR + 2 * SECOND)
    assert all(map(is_reset, ends))
    assert is_alive(*kept)
    assert web.connect(api, 9000) is Refused
    found = cell.cellnet("policy", "check", WEB, API, "tcp/9000", code=1)
    assert f"a.yaml:1 allowed it until {until}" in found.err


def test_it_stays_ended_over_a_clock_that_is_set_back_and_a_restart(cell: CellUnderTest, ahead: timedelta) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.cellnet("policy", "allow", WEB, API, "tcp/9000", "--until", "2h", "--note", "for the migration")
    api.listen(9000)
    assert web.connect(api, 9000) is Connected
    assert "for the migration" in cell.cellnet("policy", "check", WEB, API, "tcp/9000").out
    lab_of(cell).set_clock(ahead + 2 * HOUR + 2 * SECOND)
    eventually(lambda: web.connect(api, 9000) is Refused)
    assert "(ended)" in cell.cellnet("policy", "list").out
    lab_of(cell).set_clock(ahead)
    eventually(lambda: reports(cell, "policies", BEHIND))
    assert web.connect(api, 9000) is Refused
    terminate(cell)
    cell.start(well=False)
    eventually(lambda: reports(cell, "policies", BEHIND))
    assert web.connect(api, 9000) is Refused
    lab_of(cell).set_clock(ahead + 2 * HOUR + 2 * SECOND)
    eventually(lambda: not reports(cell, "policies", BEHIND))
    assert web.connect(api, 9000) is Refused
    cell.cellnet("policy", "allow", WEB, API, "tcp/9000", "--until", "1h")
    assert web.connect(api, 9000) is Connected, "allowed anew, in place of the one that has ended"


@pytest.mark.usefixtures("ahead")
def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    (block,) = blocks("docs/policies.md", test="tests/cell/policies/test_endings.py")
    for command in commands(block):
        program, *words = shlex.split(command)
        assert program == "cellnet"
        cell.cellnet(*words)
