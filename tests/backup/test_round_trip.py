"""What a backup brings back, and what it leaves behind."""

import json
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.policy.directory.lastgood import GoodVersion
from agent.store.last_leaves import ClockBounds, LastLeaf
from ca.replacement import prepare
from tests.backup.conftest import MakeHome
from tests.testlib.cell_on_disk import CONFIG, CellOnDisk

ADDRESS = IPv4Address("10.255.1.2")


def test_a_lost_cell_is_what_it_was(cell: CellOnDisk, home: MakeHome, backup: Path) -> None:
    before = cell.files()
    assert cell.cellnet("backup", str(backup)) == (
        f"backed up cell cell-1 to {backup}: database, 2 policy files, 4 files of the CA\n"
    )
    fresh = home("two")
    said = fresh.cellnet("restore", str(backup))
    assert said.startswith("restored cell cell-1 as of ")
    assert fresh.files() == before
    assert (fresh.ca / "root.key").stat().st_mode & 0o777 == 0o600
    assert fresh.ca.stat().st_mode & 0o777 == 0o700
    assert fresh.last_good.load()["bad.yaml"].modified == 1_700_000_000 * 10**9


def test_what_came_after_the_backup_goes(cell: CellOnDisk, backup: Path) -> None:
    before = cell.files()
    cell.cellnet("backup", str(backup))
    (cell.policies / "later.yaml").write_text("policies: []\n")
    (cell.policies / "shop.yaml").unlink()
    cell.config.write_text("cell: cell-1\n")
    prepare(cell.ca, trust_domain="cell.internal", now=datetime.now(UTC))
    (cell.ca / "root.key").unlink()
    cell.last_good.write("later.yaml", GoodVersion(b"policies: []\n", 1))
    cell.use_tags("later")
    assert f"removed {cell.policies}/later.yaml, which the backup does not have" in cell.cellnet("restore", str(backup))
    assert cell.files() == before


def test_a_backup_is_roots_alone_and_any_tar_lists_it(cell: CellOnDisk, backup: Path) -> None:
    backup.parent.joinpath(f".{backup.name}.new").write_text("left by a crash")
    cell.cellnet("backup", str(backup))
    assert backup.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(f"tail -n +2 {backup} | tar tz", shell=True, capture_output=True, text=True, check=True)
    assert {"backup.json", "config/agent.yaml", "ca/root.key", "database/cellnet.db"} <= set(done.stdout.split())
    assert [each.name for each in backup.parent.glob("*cell-1*")] == [backup.name]


def test_containers_stay_behind_and_their_addresses_rest(cell: CellOnDisk, home: MakeHome, backup: Path) -> None:
    cell.attach("web")
    cell.cellnet("backup", str(backup))
    fresh = home("two")
    fresh.cellnet("restore", str(backup))
    with fresh.ledger() as ledger:
        assert ledger.all() == ()
        assert ledger.cell_id(fresh="another") == "one"
    fresh.attach("next")
    with fresh.ledger() as ledger:
        assert [str(each.address) for each in ledger.all()] == ["10.255.1.3"]


def test_what_an_etcd_held_stays_behind(cell: CellOnDisk, home: MakeHome, backup: Path) -> None:
    with closing(sqlite3.connect(cell.database)) as there, there:
        there.execute("INSERT INTO shared VALUES ('/cellnet/v1/policies/old', x'00', 1, 0, 1)")
        there.execute("INSERT INTO held VALUES ('/cellnet/v1/policies/older', x'00', 1, 0, 1)")
        there.execute("INSERT INTO first_claims VALUES ('/cellnet/v1/claims/x', 'cell-2')")
        there.executemany(
            "INSERT INTO meta VALUES (?, '7 7')", [("shared",), ("held",), ("underlays",), ("tunnel_stage",), ("drain",)]
        )
    cell.cellnet("backup", str(backup))
    fresh = home("two")
    fresh.cellnet("restore", str(backup))
    with closing(sqlite3.connect(fresh.database)) as found:
        counts = [found.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("shared", "held", "first_claims")]
        assert counts == [0, 0, 0]
        assert found.execute("SELECT key FROM meta ORDER BY key").fetchall() == [("cell_id",), ("subnet",)]
    assert b"policies/old" not in fresh.database.read_bytes()


def test_an_address_that_a_later_certificate_names_is_still_named(cell: CellOnDisk, backup: Path) -> None:
    cell.cellnet("backup", str(backup))
    now = 1_700_000_000.0
    with cell.ledger() as ledger:
        ledger.remember_leaf(ADDRESS, LastLeaf("acme/shop/web", now, now + 9), now=ClockBounds(now, now))
    cell.cellnet("restore", str(backup))
    with cell.ledger() as ledger:
        assert ledger.last_leaf(ADDRESS) == LastLeaf("acme/shop/web", now, now + 9)


def test_a_running_agents_last_transaction_is_in_it(cell: CellOnDisk, home: MakeHome, backup: Path) -> None:
    """What is in SQLite's log only counts."""
    with cell.ledger() as ledger:
        ledger._database.read("SELECT 1")
        cell.use_tags("late")
        assert cell.database.with_name("cellnet.db-wal").stat().st_size > 0
        cell.cellnet("backup", str(backup))
    fresh = home("two")
    fresh.cellnet("restore", str(backup))
    assert "acme/shop/late" in fresh.tags()


def test_nothing_of_the_log_of_the_database_that_goes_is_played_into_the_new_one(cell: CellOnDisk, backup: Path) -> None:
    cell.cellnet("backup", str(backup))
    with cell.ledger():
        cell.use_tags("later")
        log = cell.database.with_name("cellnet.db-wal").read_bytes()
    cell.cellnet("backup", str(backup.with_name("later")))
    cell.database.with_name("cellnet.db-wal").write_bytes(log)  # as a kill leaves it
    cell.cellnet("restore", str(backup))
    assert not cell.database.with_name("cellnet.db-wal").exists()
    assert "acme/shop/later" not in cell.tags()


SECTIONS = {
    "etcd": (
        "ca cert key password_file",
        "store: {{etcd: {{endpoints: ['https://192.0.2.1:2379'], username: cell-1, {keys}}}}}\n",
    ),
    "metrics": ("cert key client_ca token_file", "metrics: {{listen: 127.0.0.1:9465, {keys}}}\n"),
}


@pytest.mark.parametrize("section", SECTIONS)
def test_files_that_the_configuration_names_are_in_it(cell: CellOnDisk, home: MakeHome, backup: Path, section: str) -> None:
    words, text = SECTIONS[section]
    folder = cell.root / "etc/cellnet/files"
    folder.mkdir()
    for name in words.split():
        (folder / name).write_text(name)
        (folder / name).chmod(0o600)
    keys = ", ".join(f"{name}: /etc/cellnet/files/{name}" for name in words.split())
    cell.config.write_text(CONFIG + text.format(keys=keys))
    cell.cellnet("backup", str(backup))
    fresh = home("two")
    fresh.cellnet("restore", str(backup))
    there = fresh.root / "etc/cellnet/files"
    assert {each.name: each.read_text() for each in there.iterdir()} == {name: name for name in words.split()}
    assert {each.stat().st_mode & 0o777 for each in there.iterdir()} == {0o600}


def test_a_policy_file_that_others_can_write_does_not_come_back_as_roots(cell: CellOnDisk, backup: Path) -> None:
    (cell.policies / "shop.yaml").chmod(0o666)
    assert "not in the backup" in cell.cellnet("backup", str(backup))
    assert json.loads(cell.cellnet("backup", str(backup), "--json").partition("warning")[0])["files"]["policies"] == 1


def test_a_passphrase_opens_what_it_has_closed(cell: CellOnDisk, home: MakeHome, backup: Path) -> None:
    words = backup.with_name("words")
    words.write_text("ein Satz mit Ümläuten\n")
    words.chmod(0o600)
    before = cell.files()
    cell.cellnet("backup", str(backup), "--passphrase-file", str(words))
    content = backup.read_bytes()
    assert b"PRIVATE KEY" not in content
    assert b"backup.json" not in content
    fresh = home("two")
    fresh.cellnet("restore", str(backup), "--passphrase-file", str(words))
    assert fresh.files() == before


def test_the_time_that_a_backup_was_taken_is_shown(cell: CellOnDisk, backup: Path) -> None:
    said = json.loads(cell.cellnet("backup", str(backup), "--json"))
    assert (said["cell"], said["id"], said["file"]) == ("cell-1", "one", str(backup))
    assert said["files"] == {"config": 1, "policies": 2, "database": 1, "ca": 4, "last-good": 1, "etcd": 0, "metrics": 0}
    assert said["taken"].endswith("Z")
