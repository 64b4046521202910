"""The SQLite file before it is used: made whole where missing, checked before it is opened, copied where it cannot be written.

A disk that is full or read-only cannot even take the index that SQLite keeps beside the file, but it can be read: its content
is served from a copy in memory, so that a start needs no room and a revoke never waits for a disk.
"""

import contextlib
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path

from agent.errors import HostRefused
from agent.store import schema
from agent.store.sqlite_errors import DAMAGED, code_of, damaged
from host.durable import SECRET, create, locked, make_folder
from host.errors import refused_as

SCRATCH = (Path("/dev/shm"), Path("/run"))  # noqa: S108 -- in a folder of our own, mode 0700


def open_sound(path: Path, *, patience: float) -> sqlite3.Connection:
    """The file, sound and of this version. Raises sqlite3.Error, or HostRefused for what no further try would mend."""
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    try:
        refuse_unsound(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise HostRefused(f"{path}: its file system has no shared memory for SQLite", hint="use a local disk")
        if schema.version_of(connection) < len(schema.MIGRATIONS):  # or every start would need the write lock
            schema.migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def copy_in_memory(path: Path) -> sqlite3.Connection:
    """The file and its log. Raises as `open_sound`, and OSError where there is no memory to copy them to."""
    scratch = next((each for each in SCRATCH if each.is_dir()), None)
    with tempfile.TemporaryDirectory(prefix="cellnet-", dir=scratch) as folder:
        copy = Path(folder) / path.name
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as found:
            refuse_unsound(found, path)
            connection = sqlite3.connect(":memory:", isolation_level=None)
            found.backup(connection)
    if schema.version_of(connection) < len(schema.MIGRATIONS):
        schema.migrate(connection)
    return connection


def refuse_unsound(connection: sqlite3.Connection, path: Path) -> None:
    """Raise HostRefused for damage, for a file of another program and for one of a newer version."""
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise damaged(path, str(answer))
    if not schema.is_ours(connection):
        raise HostRefused(f"{path} is not cellnet's database", hint="choose another state folder, or move the file away")
    found, known = schema.version_of(connection), len(schema.MIGRATIONS)
    if found > known:
        raise HostRefused(
            f"{path} was written by a newer cellnet (schema {found}, this one knows {known})",
            hint="install the newer version again",
        )


def inspect(path: Path) -> HostRefused | None:
    """What is wrong with the file as it is on the disk now, past any cache. May run in a thread of its own."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if answer == "ok" and not schema.is_ours(connection):  # to SQLite an empty file is a sound database
                answer = "it is empty"
    except sqlite3.Error as error:  # anything but damage is reported by the next write
        return damaged(path, str(error)) if code_of(error) in DAMAGED else None
    return None if answer == "ok" else damaged(path, str(answer))


def make_if_missing(path: Path) -> None:
    """Ensure that `path` is a private regular file in a folder that only root can write; a new one is put in place whole.

    So an empty or half-written file is always damage and never taken for a new one. The file is never opened here: closing any
    descriptor of it would drop the locks that SQLite holds for this process.
    """
    with refused_as(str(path), hint="check the folder, the free space and the mount"):
        make_folder(path.parent, mode=0o700)
        if path.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HostRefused(f"{path.parent} can be written by others", hint=f"chmod go-w {path.parent}")
        # The log is looked for before the file: another process may just now be making both, in that order.
        log = path.with_name(path.name + "-wal")
        if log.exists() and not path.exists():
            raise HostRefused(
                f"{path} is missing, but {log.name} with its last changes is there",
                hint=f"put the file back, or move {log} away too; it would be played into the new one",
            )
        if not path.exists():
            with locked(path.parent), contextlib.suppress(FileExistsError):
                create(path, schema.blank(), mode=SECRET)
        check_file(path)


def check_file(path: Path) -> None:
    """A regular file of more than nothing, mode 0600 from now on."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise HostRefused(f"{path} is not a file", hint="move it away")
    if found.st_size == 0:
        raise damaged(path, "it is empty")
    if stat.S_IMODE(found.st_mode) != SECRET:
        path.chmod(SECRET)
