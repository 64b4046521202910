"""The walk of one cell, plain. Its own file, for the reason that stands in `test_plain.py`."""

from collections.abc import Callable

import pytest

from tests.testlib.cells import CellsUnderTest
from tests.testlib.oracle import Mode
from tests.walk import course


@pytest.mark.timeout(course.SECONDS)
def test_after_every_step_a_cell_that_has_no_other_lets_through_what_policies_allow(
    make_cells: Callable[..., CellsUnderTest],
) -> None:
    course.walk(make_cells, Mode.NONE, usual=(81, 60), cells=1)
