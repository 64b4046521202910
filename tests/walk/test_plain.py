"""The walk with plain TCP. Its own file, as files are what tests are shared out by: the two walks go side by side."""

from collections.abc import Callable

import pytest

from tests.testlib.cells import CellsUnderTest
from tests.testlib.oracle import Mode
from tests.walk import course


@pytest.mark.timeout(course.SECONDS)
def test_after_every_step_plain_connections_are_those_that_the_policies_allow(
    make_cells: Callable[..., CellsUnderTest],
) -> None:
    course.walk(make_cells, Mode.NONE, usual=(6, 110))
