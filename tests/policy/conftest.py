"""A directory that is followed, for the tests of files and of links."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.testlib.followed import Followed, following
from tests.testlib.policy_directory import PolicyDirectory


@pytest.fixture
async def followed(tmp_path: Path) -> AsyncIterator[Followed]:
    (tmp_path / "etc" / "policies.d").mkdir(parents=True)
    async with following(tmp_path) as each:
        yield each


@pytest.fixture
async def timeless(tmp_path: Path) -> AsyncIterator[Followed]:
    """Where no time passes: only what an event reports is believed, and nothing that is missing is gone."""
    (tmp_path / "etc" / "policies.d").mkdir(parents=True)
    async with following(tmp_path, clock=lambda: 0.0) as each:
        yield each


@pytest.fixture
def place(tmp_path: Path) -> PolicyDirectory:
    return PolicyDirectory(tmp_path)
