"""A cell on a disk, and folders for more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testlib.cell_on_disk import CellOnDisk
from tests.testlib.netns import Netns

MakeHome = Callable[[str], CellOnDisk]


@pytest.fixture
def home(tmp_path: Path, netns: Callable[[str], Netns], capsys: pytest.CaptureFixture[str]) -> MakeHome:
    """A cell's folder by name, empty, with a host of its own."""
    return lambda name: CellOnDisk(tmp_path / name, netns(name), capsys)


@pytest.fixture
def cell(home: MakeHome) -> CellOnDisk:
    """The cell `cell-1`, with all that an agent leaves."""
    made = home("one")
    made.make()
    return made


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """Where the backup goes."""
    return tmp_path / "cell-1.backup"
