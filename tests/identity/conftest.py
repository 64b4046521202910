"""Leaves of a cell in a folder of the test, by a clock that the test sets."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.identity.keyring import Keyring
from agent.identity.leaves import LeafFacts, Leaves
from ca.disk import load_or_create
from tests.testlib.disks import small_disk
from tests.testlib.patience import eventually_async
from tests.testlib.samples import ROUTE_DOMAINS

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FACTS = LeafFacts(trust_domain="cell.internal", domains=ROUTE_DOMAINS, lifetime=DAY)


class LeafScene:
    """A cell with its own root, all of it below a folder in memory; `changes` counts what `Leaves` has announced."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, NOON
        self.changes = 0

    def leaves(self) -> Leaves:
        """As a start of the agent makes them."""
        return Leaves(
            lambda: load_or_create(self.folder / "ca", cell="cell-1", trust_domain="cell.internal", now=self.now),
            keyring=Keyring(self.folder / "identity"), facts=FACTS, now=lambda: self.now, folder=self.folder / "ca",
        )  # fmt: skip

    async def run_until(self, leaves: Leaves, true: Callable[[], bool]) -> None:
        """Renew in the background until something is so."""

        def changed() -> None:
            self.changes += 1

        running = asyncio.create_task(leaves.run(changed))
        try:
            await eventually_async(true)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[LeafScene]:
    with small_disk(tmp_path / "scene", "size=1m,mode=0755") as place:
        yield LeafScene(place)
