"""A disk that a test may fill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testlib.disks import small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "size=4m,nr_inodes=20") as place:
        yield place
