"""An agent on memory, behind the socket that the command line finds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testlib.fake_cell import FakeCell, serving


@pytest.fixture
def cell() -> FakeCell:
    return FakeCell()


@pytest.fixture
def agent(cell: FakeCell, tmp_path: Path) -> Iterator[Path]:
    """The root below which it answers."""
    with serving(cell, tmp_path / "run/cellnet/agent.sock"):
        yield tmp_path
