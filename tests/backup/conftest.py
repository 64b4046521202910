"""A cell on a disk, and folders for more."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.testlib.cell_on_disk import CellOnDisk
from tests.testlib.netns import Netns

MakeHome = Callable[[str], CellOnDisk]


@pytest.fixture
def home(netns: Callable[[str], Netns], capsys: pytest.CaptureFixture[str]) -> Iterator[MakeHome]:
    """A cell's folder by name, empty, with a host of its own."""
    with tempfile.TemporaryDirectory(prefix="cnt-") as root:  # a short path: sockets are below it
        yield lambda name: CellOnDisk(Path(root) / name, netns(name), capsys)


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
