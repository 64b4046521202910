"""The README's first session, line by line in a real cell: what it shows is what comes back."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks
from tests.testlib.shell import Shell

pytestmark = pytest.mark.release


def test_the_readmes_first_session_is_what_a_user_sees(make_cell: Callable[..., CellUnderTest], tmp_path: Path) -> None:
    with closing(Shell(make_cell(), home=tmp_path)) as shell:
        assert shell.play(*blocks("README.md", test="tests/repository/test_first_session.py"), instead={}) == 8
