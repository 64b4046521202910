"""The SQLite file is damaged, gone or locked: what was allowed goes on, nothing else does, and the status says what to do."""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import HostRefused
from lab.cell import Cell, Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections, is_reset
from tests.testlib.containers import Attach
from tests.testlib.failures import terminate
from tests.testlib.footprint import expected, footprint, nothing_left
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, follows_policy, three_apps
from tests.testlib.status import problems, reports
from tests.testlib.unsupervised_cell import UnsupervisedCell

LATE = f"policies:\n- {{from: {OTHER}, to: {API}, tcp: [8080, 9100]}}\n"


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return UnsupervisedCell


def file_of(cell: CellUnderTest) -> Path:
    return cell.lab.root / "var/lib/cellnet/cellnet.db"


def settled(path: Path) -> bytes:
    """The content, with all that was in the log."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def emptied(_: bytes) -> bytes:
    return b""


def middle_overwritten(content: bytes) -> bytes:
    middle = len(content) // 2 // 4096 * 4096
    return content[:middle] + os.urandom(4096) + content[middle + 4096 :]


def files_decide(cell: CellUnderTest, api: Instance, other: Instance) -> bool:
    """Whether a policy file opens and its removal cuts."""
    cell.policy_file("late.yaml", LATE)
    allowed, live = other.connect(api, 8080), pair(other, api, 9100)
    cell.remove_policy_file("late.yaml")
    return (allowed, other.connect(api, 8080)) == (Connected, Refused) and all(map(is_reset, live))


def test_damage_under_a_running_agent_is_reported_and_it_goes_on_with_what_it_has_read(
    cell: CellUnderTest, attach: Attach
) -> None:
    web, api, other = three_apps(cell)
    cell.allow(API, WEB, "tcp/8080")
    live, path = LiveConnections(web, api), file_of(cell)
    whole = settled(path)
    path.write_bytes(whole[: len(whole) // 2])
    eventually(lambda: reports(cell, "store", f"{path} is damaged"))
    assert f"move {path}* away" in problems(cell)["store"]
    before = footprint(cell)
    with pytest.raises(HostRefused, match="is damaged"):
        attach("acme/shop/more")
    assert footprint(cell) == before == expected(cell)
    assert "is damaged" in cell.cellnet("policy", "delete", API, WEB, "tcp/8080", code=1).err
    assert files_decide(cell, api, other)
    assert live.go_on()
    assert api.connect(web, 8080) is Connected
    path.write_bytes(whole)
    cell.wait_well()
    cell.cellnet("policy", "delete", API, WEB, "tcp/8080")
    assert follows_policy(web, api, other)


def test_no_agent_starts_from_a_damaged_file_and_the_hint_works(cell: CellUnderTest, attach: Attach) -> None:
    web, api, other = three_apps(cell)
    live, path = LiveConnections(web, api), file_of(cell)
    terminate(cell)
    whole = settled(path)
    for harm in (emptied, middle_overwritten):  # tests/store has more of them
        path.write_bytes(harmed := harm(whole))
        assert f"error: {path} is damaged: " in cell.cellnet("agent", code=1).err
        assert path.read_bytes() == harmed
    asked = cell.cellnet("status", code=1).err
    assert re.search(rf"its last start failed at [-0-9: ]+: {path} is damaged", asked)
    assert f"move {path}* away" in asked
    assert live.go_on()
    assert follows_policy(web, api, other)

    for each in path.parent.glob(f"{path.name}*"):
        each.rename(path.parent / f"away-{each.name}")
    cell.start()
    assert cell.attachments() == []
    assert footprint(cell) == expected(cell)
    assert web.connect(api, 8080) is not Connected, "what the new ledger does not know is not connected"
    again = attach("acme/shop/again")
    assert cell.host.connect(again, 61443) is Connected
    assert [each.text("name") for each in cell.client.get("/v1/policies").each()] != [], "files are not affected"


def test_a_file_that_is_taken_away_from_a_running_agent_is_missed_before_anything_is_lost(
    cell: CellUnderTest, attach: Attach
) -> None:
    web, api, other = three_apps(cell)
    path = file_of(cell)
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(HostRefused, match="is not the file that was opened"):
        attach("acme/shop/more")
    assert "put it back" in problems(cell)["store"]
    assert files_decide(cell, api, other)
    path.with_name("elsewhere").rename(path)
    cell.wait_well()
    assert attach("acme/shop/more").connect(api, 8080) is Refused
    assert follows_policy(web, api, other)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


def test_a_foreign_lock_is_reported_and_stops_only_writers(cell: CellUnderTest, attach: Attach) -> None:
    web, api, other = three_apps(cell)
    gone = attach("acme/shop/gone")
    live = LiveConnections(web, api)
    with locked(file_of(cell)):
        with nothing_left(cell), pytest.raises(HostRefused, match="another process holds it locked"):
            attach("acme/shop/more")
        assert "end the process that works on it" in problems(cell)["store"]
        assert "locked" in cell.cellnet("policy", "allow", OTHER, API, "tcp/8080", code=1).err
        assert files_decide(cell, api, other)
        with pytest.raises(HostRefused, match="locked"):
            cell.client.delete("/v1/attachments/gone")
        assert gone.name not in cell.attachments()
        terminate(cell)
        cell.start(well=False)
        eventually(lambda: reports(cell, "kernel", "'gone' is not wholly detached yet"))
        assert files_decide(cell, api, other)
        assert cell.lab.part(Part.AGENT) is not None
        assert live.go_on()
    cell.wait_well()
    assert footprint(cell) == expected(cell)
    assert attach("acme/shop/more").connect(api, 8080) is Refused
    assert follows_policy(web, api, other)
