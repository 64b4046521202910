"""A file that cannot be used is refused in the operator's words, and never replaced; a write that fails changes nothing."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.errors import Bug, Conflict, HostRefused
from agent.store import schema
from agent.store.database import Database
from agent.store.file import inspect
from agent.store.ledger import Ledger
from agent.store.protocols import StoredPolicy
from agent.store.schema import MIGRATIONS, is_ours, migrate, version_of
from agent.store.sqlite import SqliteStore
from tests.testlib.samples import OWNER, app, request

SUBNET = IPv4Network("10.255.1.0/24")


def filled(path: Path) -> Path:
    """A sound database with a few hundred policies and one attachment, closed."""
    database = Database(path)
    with database.transaction(durable=True) as connection:
        rows = [(f"p{number}", "x" * 300) for number in range(300)]
        connection.executemany("INSERT INTO policies VALUES (?, ?)", rows)
    ledger = Ledger(database)
    ledger.adopt_subnet(SUBNET)
    ledger.begin(request("a"), owner=OWNER)
    database.close()
    return path


def fill(disk: Path) -> Path:
    """A file that takes what is left of the disk."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def attach_many(ledger: Ledger) -> None:
    for number in range(200):
        ledger.begin(request(f"b{number}"), owner=OWNER)


def test_the_file_and_its_folder_are_private(path: Path, ledger: Ledger) -> None:
    ledger.begin(request("a"), owner=OWNER)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"cellnet.db": 0o600, "cellnet.db-wal": 0o600, "cellnet.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_wider_mode_is_narrowed_and_a_loose_umask_does_not_matter(path: Path) -> None:
    before = os.umask(0)
    try:
        Database(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o666)
        Database(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(HostRefused, match="can be written by others") as refused:
        Database(tmp_path / "cellnet.db")
    assert "chmod go-w" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(_: bytes) -> bytes:
    return b""


def garbage(content: bytes) -> bytes:
    return b"\xa5" * len(content)


def one_page_overwritten(content: bytes) -> bytes:
    return content[:20480] + b"\xa5" * 4096 + content[24576:]


def schema_overwritten(content: bytes) -> bytes:
    return content[:100] + b"\xa5" * 3996 + content[4096:]


@pytest.mark.parametrize("harm", [cut, emptied, garbage, one_page_overwritten, schema_overwritten])
def test_a_damaged_file_is_refused_with_a_way_out_and_kept_as_it_is(path: Path, harm: Callable[[bytes], bytes]) -> None:
    harmed = harm(filled(path).read_bytes())
    path.write_bytes(harmed)
    for _ in range(2):
        with pytest.raises(HostRefused, match=r"cellnet\.db is damaged: ") as refused:
            Database(path)
        assert f"move {path}* away" in refused.value.hint
    assert path.read_bytes() == harmed


def test_damage_found_while_running_is_refused_in_the_same_words(path: Path) -> None:
    database = Database(filled(path))
    database._connection.execute("PRAGMA shrink_memory")  # or it would answer from its cache
    path.write_bytes(garbage(path.read_bytes()))
    with pytest.raises(HostRefused, match="is damaged"):
        SqliteStore(database)


def test_an_entry_that_makes_no_sense_is_damage_that_names_it(database: Database, ledger: Ledger) -> None:
    held = ledger.begin(request("a"), owner=OWNER)
    assert ledger.all() == (held,)
    with database.transaction(durable=False) as connection:
        connection.execute("UPDATE attachments SET owner = '{}'")
    for read in (Ledger(database).all, lambda: Ledger(database).get("a"), lambda: ledger.complete("a")):
        with pytest.raises(HostRefused, match="is damaged: the entry of 'a' makes no sense"):
            read()
    assert ledger.all() == (held,), "what was read before serves on"
    assert "makes no sense" in str(database.trouble)
    assert not told_after(database, ledger, "DELETE FROM attachments")


def told_after(database: Database, ledger: Ledger, sql: str) -> HostRefused | None:
    """The trouble that is left once the file is mended."""
    with database.transaction(durable=False) as connection:
        connection.execute(sql)
    ledger.all()
    return database.trouble


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cellnet.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(HostRefused, match="is not cellnet's database"):
        Database(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    newer = sqlite3.connect(filled(path), isolation_level=None)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 2}")
    newer.close()
    with pytest.raises(
        HostRefused, match=f"newer cellnet \\(schema {len(MIGRATIONS) + 2}, this one knows {len(MIGRATIONS)}\\)"
    ):
        Database(path)


def test_an_older_schema_is_brought_up_keeping_its_rows_or_left_as_it_was(path: Path) -> None:
    connection = sqlite3.connect(filled(path), isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, migrations=(*MIGRATIONS, ("ALTER TABLE tags ADD COLUMN note TEXT", "NONSENSE")))
    assert version_of(connection) == len(MIGRATIONS)
    assert "note" not in [row[1] for row in connection.execute("PRAGMA table_info(tags)")]
    migrate(connection, migrations=(*MIGRATIONS, ("ALTER TABLE tags ADD COLUMN note TEXT",)))
    assert version_of(connection) == len(MIGRATIONS) + 1
    assert is_ours(connection)
    migrate(connection)  # an older cellnet that comes too late
    assert version_of(connection) == len(MIGRATIONS) + 1
    assert connection.execute("SELECT count(*) FROM policies").fetchone() == (300,)
    connection.close()


def test_a_log_without_its_file_is_refused_because_it_would_be_played_into_a_new_one(path: Path, ledger: Ledger) -> None:
    ledger.begin(request("a"), owner=OWNER)
    path.rename(path.with_name("away"))
    with pytest.raises(HostRefused, match=r"is missing, but cellnet\.db-wal with its last changes is there"):
        Database(path)
    assert not path.exists()
    path.with_name("away").rename(path)
    assert len(Ledger(Database(path)).all()) == 1


def test_a_folder_in_the_files_place_is_refused(path: Path) -> None:
    path.mkdir(parents=True, mode=0o700)
    with pytest.raises(HostRefused, match="is not a file"):
        Database(path)


def test_a_file_in_the_folders_place_is_refused(path: Path) -> None:
    path.parent.write_text("")
    with pytest.raises(HostRefused, match=r"cellnet\.db: "):
        Database(path)


def test_a_full_disk_refuses_writes_changes_nothing_and_heals_by_itself(small_disk: Path) -> None:
    database = Database(small_disk / "state" / "cellnet.db")
    ledger = Ledger(database)
    ledger.adopt_subnet(SUBNET)
    ledger.begin(request("a"), owner=OWNER)
    filler = fill(small_disk)
    with pytest.raises(HostRefused, match="the disk is full") as refused:
        attach_many(ledger)
    before = ledger.all()
    assert "make room" in refused.value.hint
    assert [held.name for held in before] == sorted(["a", *(f"b{number}" for number in range(len(before) - 1))])
    for write in (ledger.complete, ledger.begin_detach):
        with pytest.raises(HostRefused):
            write("a")
    assert ledger.all() == before
    filler.unlink()
    assert ledger.complete("a") in ledger.all()
    database.close()
    assert len(Ledger(Database(small_disk / "state" / "cellnet.db")).all()) == len(before)


async def test_a_full_disk_refuses_policies_without_telling_the_loop(small_disk: Path) -> None:
    store = SqliteStore(Database(small_disk / "state" / "cellnet.db"))
    await store.apply_policies([StoredPolicy("a", "1")])
    heard: list[int] = []
    store.changes.subscribe(lambda: heard.append(1))
    with pytest.raises(HostRefused, match="the disk is full"):
        await store.apply_policies([StoredPolicy("a", "2"), StoredPolicy("b", "x" * 2_000_000)])
    assert await store.policies() == (StoredPolicy("a", "1"),)
    assert heard == []
    await store.apply_policies([StoredPolicy("a", "3")])
    assert heard == [1]


def test_a_disk_that_was_full_from_the_start_leaves_no_half_file(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(HostRefused, match="No space left"):
        Database(small_disk / "cellnet.db")
    assert [file.name for file in small_disk.iterdir()] == ["filler"]


def test_a_read_only_file_system_without_a_file_is_refused(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(HostRefused, match=r"cellnet\.db: ") as refused:
        Database(small_disk / "cellnet.db")
    assert refused.value.hint


def read_only(disk: Path) -> Callable[[], object]:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    return lambda: subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


def full(disk: Path) -> Callable[[], object]:
    return fill(disk).unlink


@pytest.mark.parametrize("log", ["no log", "a log without its index"])
@pytest.mark.parametrize("spoil", [read_only, full])
def test_what_a_disk_holds_is_read_though_it_takes_nothing_and_is_written_again_when_it_does(
    small_disk: Path, spoil: Callable[[Path], Callable[[], object]], log: str
) -> None:
    path = filled(small_disk / "cellnet.db")
    if log != "no log":
        leave_a_log(path)
    heal = spoil(small_disk)
    database = Database(path)
    ledger, store = Ledger(database), SqliteStore(database)
    before = ledger.all()
    assert [held.name for held in before] == (["a"] if log == "no log" else ["a", "b"])
    for write in (ledger.complete, ledger.begin_detach):
        with pytest.raises(HostRefused, match=r"cellnet\.db: "):
            write("a")
    assert (ledger.all(), database.try_again(), database.trouble is None) == (before, False, False)
    heal()
    assert database.try_again()
    assert database.trouble is None
    assert ledger.complete("a") in ledger.all()
    assert len(asyncio.run(store.policies())) == 300
    assert Ledger(Database(path)).all() == ledger.all()


def leave_a_log(path: Path) -> None:
    """As kill -9 and a reboot leave it: the last change in the log alone, no index."""
    database = Database(path)
    Ledger(database).begin(request("b"), owner=OWNER)
    kept = {name: path.with_name(name).read_bytes() for name in (path.name, f"{path.name}-wal")}
    database.close()
    for name, content in kept.items():
        path.with_name(name).write_bytes(content)


def test_a_locked_file_is_refused_after_a_while_and_reads_go_on(path: Path) -> None:
    other = sqlite3.connect(filled(path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database = Database(path, patience=0.05)
    ledger = Ledger(database)
    before = ledger.all()
    with pytest.raises(HostRefused, match="another process holds it locked"):
        ledger.begin(request("b"), owner=OWNER)
    assert ledger.all() == before
    assert "locked" in str(database.trouble)
    assert not database.try_again()
    other.execute("ROLLBACK")
    assert database.try_again()
    ledger.begin(request("b"), owner=OWNER)
    assert database.trouble is None


def test_a_lock_that_is_held_for_long_is_waited_for_once(path: Path) -> None:
    other = sqlite3.connect(filled(path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database = Database(path, patience=0.05)

    def patience() -> int:
        (milliseconds,) = database._connection.execute("PRAGMA busy_timeout").fetchone()
        return int(milliseconds)

    assert patience() == 50
    with pytest.raises(HostRefused):
        Ledger(database).begin_detach("a")
    assert patience() == 0
    other.execute("ROLLBACK")
    Ledger(database).begin_detach("a")
    assert patience() == 50


@pytest.mark.parametrize("put", ["nothing", "another"])
def test_a_file_that_is_moved_away_is_not_written_to_any_more(path: Path, put: str) -> None:
    database = Database(filled(path))
    ledger = Ledger(database)
    before = ledger.all()
    path.rename(path.with_name("away"))
    if put == "another":
        path.write_bytes(schema.blank())
    with pytest.raises(HostRefused, match="is not the file that was opened"):
        ledger.begin_detach("a")
    assert ledger.all() == before
    assert not database.try_again()
    path.with_name("away").replace(path)
    assert database.try_again()
    assert ledger.begin_detach("a") in ledger.all()


@pytest.mark.parametrize("harm", [cut, emptied, garbage, one_page_overwritten, schema_overwritten])
def test_damage_is_seen_past_the_cache_and_what_was_read_serves_on(path: Path, harm: Callable[[bytes], bytes]) -> None:
    database = Database(filled(path))
    ledger, store = Ledger(database), SqliteStore(database)
    before = ledger.all(), asyncio.run(store.policies())
    assert inspect(path) is None
    path.write_bytes(harm(path.read_bytes()))
    assert "is damaged" in str(inspect(path))
    database.set_inspected(inspect(path))
    assert "is damaged" in str(database.trouble)
    with pytest.raises(HostRefused, match="is damaged"):
        ledger.begin_detach("a")
    assert (ledger.all(), asyncio.run(store.policies())) == before


def test_a_refused_request_leaves_no_transaction_open(database: Database, ledger: Ledger) -> None:
    ledger.begin(request("a"), owner=OWNER)
    with pytest.raises(Conflict):
        ledger.begin(request("a"), owner=OWNER)
    ledger.begin(request("b"), owner=OWNER)


def test_what_fails_half_way_is_undone(database: Database) -> None:
    with pytest.raises(Bug), database.transaction(durable=False) as connection:
        connection.executemany("INSERT INTO policies VALUES ('a', ?)", [("1",), ("2",)])
    assert database.read("SELECT * FROM policies") == []


def test_our_own_mistakes_are_bugs(database: Database) -> None:
    with pytest.raises(Bug), database.transaction(durable=False) as connection:
        connection.execute("INSERT INTO tags VALUES ('a/b/c', 70000, NULL)")
    database.close()
    with pytest.raises(Bug):
        database.read("SELECT 1 FROM tags")


async def test_what_users_were_promised_is_synced_and_what_dies_with_the_boot_is_not(
    database: Database, ledger: Ledger
) -> None:
    said: list[str] = []
    store = SqliteStore(database)
    database._connection.set_trace_callback(said.append)
    ledger.begin(request("a"), owner=OWNER)
    await store.claim_tags([app("web")], now=1.0)
    await store.release_tags([app("web")], now=2.0)
    assert "PRAGMA synchronous = NORMAL" in said
    assert "PRAGMA synchronous = FULL" not in said
    for write in (store.apply_policies([StoredPolicy("a", "1")]), store.delete_policy("a")):
        said.clear()
        await write
        assert said.index("PRAGMA synchronous = FULL") < said.index("BEGIN IMMEDIATE")
