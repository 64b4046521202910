"""The certificates of a cell through a full disk and a clock that is set: what can be issued is, the rest is made up for."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.errors import HostRefused
from agent.identity.keyring import Keyring
from agent.identity.leaf import validity
from agent.identity.leaves import LeafFacts, Leaves
from agent.model.attachment import Attachment, Phase
from ca.disk import load_or_create
from ca.errors import CaRefused
from tests.testlib.samples import OWNER, request

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FACTS = LeafFacts(trust_domain="cell.internal", dns_domain="cell.internal", lifetime=DAY)


def attached(name: str, number: int) -> Attachment:
    asked = request(name)
    return Attachment(
        name=name, app=asked.app, instance=number, address=IPv4Address("10.255.1.2") + number, interface="eth0", ports=(),
        routes=(), tls_target=8080, tls_http=False, owner=OWNER, phase=Phase.ATTACHED,
    )  # fmt: skip


WEB, API = attached("web", 0), attached("api", 1)


class Desk:
    """Leaves below a folder in memory, by a clock that the test sets."""

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
        def changed() -> None:
            self.changes += 1

        running = asyncio.create_task(leaves.run(changed))
        try:
            async with asyncio.timeout(20):
                while not true():  # noqa: ASYNC110 -- nobody tells
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    place = tmp_path / "desk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", place], check=True)
    yield Desk(place)
    subprocess.run(["umount", "--lazy", place], check=True)


async def test_a_start_on_a_full_disk_keeps_what_is_good_tells_what_is_missing_and_makes_up_for_it(desk: Desk) -> None:
    desk.leaves().load([WEB])
    filler = desk.folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    leaves = desk.leaves()
    leaves.load([WEB, API])
    assert leaves.all().keys() == {"web"}
    assert "No space left" in leaves.failures["api"]
    filler.unlink()
    desk.now += timedelta(seconds=2)
    await desk.run_until(leaves, lambda: "api" in leaves.all())
    assert leaves.failures == {}
    assert desk.changes == 1


async def test_a_clock_that_is_set_back_renews_what_came_from_the_future_the_cells_own_certificate_first(desk: Desk) -> None:
    leaves = desk.leaves()
    desk.now += 60 * DAY  # the cell's certificate is due
    leaves.load([WEB])
    await desk.run_until(leaves, lambda: leaves.authorities.cell.valid.not_before > NOON + DAY)
    leaves.ensure(WEB)
    assert validity(leaves.all()["web"]).not_before > NOON + DAY
    desk.now = NOON + DAY
    await desk.run_until(leaves, lambda: validity(leaves.all()["web"]).includes(desk.now))
    assert leaves.authorities.cell.valid.includes(desk.now)
    assert leaves.failures == {}


def test_authorities_that_cannot_be_read_are_the_hosts_doing_so_that_a_start_is_tried_again(desk: Desk) -> None:
    def refused() -> None:
        raise CaRefused("root.crt is damaged", hint="put it back")

    with pytest.raises(HostRefused, match="is damaged"):
        Leaves(refused, keyring=Keyring(desk.folder), facts=FACTS, now=lambda: NOON)  # type: ignore[arg-type]


async def test_an_end_that_comes_together_with_a_new_leaf_is_an_end(desk: Desk) -> None:
    leaves = desk.leaves()
    leaves.load([WEB])
    running = asyncio.create_task(leaves.run(lambda: None))
    for _ in range(5):
        await asyncio.sleep(0)  # it waits by now
    leaves.ensure(API)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running}, timeout=10)
    assert running.cancelled()
