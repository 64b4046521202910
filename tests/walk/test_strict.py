"""The walk with all TCP in tunnels. Its own file, for the reason that stands in `test_plain.py`."""

from collections.abc import Callable

import pytest

from tests.testlib.cells import CellsUnderTest
from tests.testlib.oracle import Mode
from tests.walk import course


@pytest.mark.timeout(course.SECONDS)
def test_after_every_step_streams_in_tunnels_are_those_that_the_policies_allow(
    make_cells: Callable[..., CellsUnderTest],
) -> None:
    course.walk(make_cells, Mode.STRICT, usual=(63, 64))
