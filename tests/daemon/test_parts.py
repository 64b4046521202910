"""What the parts of the agent report, gathered."""

import re
from collections.abc import Iterable
from pathlib import Path

from agent.model.status import AREAS, Part, Problem, problems_of

PAGE = Path(__file__).parents[2] / "docs/api.md"


class Reporting(Part):
    """A part with problems."""

    def __init__(self, *found: Problem) -> None:
        self._found = found

    def problems(self) -> Iterable[Problem]:
        return self._found


def test_problems_come_gravest_area_first_and_otherwise_as_the_parts_report_them() -> None:
    one = Reporting(Problem("identity", "a"), Problem("envoy", "b"))
    other = Reporting(Problem("envoy", "c"), Problem("kernel", "d"))
    assert [each.what for each in problems_of([one, Part(), other])] == ["d", "b", "c", "a"]


def test_what_two_parts_report_in_the_same_words_is_there_once() -> None:
    found = problems_of([Reporting(Problem("tags", "full", "one")), Reporting(Problem("store", "full", "other"))])
    assert found == (Problem("store", "full", "other"),)


def test_the_page_of_the_api_lists_the_areas() -> None:
    text = PAGE.read_text().partition("Areas are")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", text) == list(AREAS)
