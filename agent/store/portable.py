"""The SQLite file as it may be carried to another boot or host: what is true of one boot, or of one moment of an etcd, stays.

    attachments     their namespaces and owners end with the boot; their addresses count as freed, and rest
    tunnel_stage    how far mutual TLS has come with those containers
    drain           was of a maintenance that is over, or of the host that is replaced
    shared, held    what an etcd held: policies that were deleted since would be in force again, and an etcd that has gone on
    first_claims    would be taken for one that has lost data. A cell that has forgotten them asks, as a new one does

What a revoke or a release has brought about since is carried over from the file that is replaced, where it can be read: until
when certificates name an address.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from agent.errors import HostRefused
from agent.store import schema
from agent.store.file import copy_in_memory, refuse_unsound
from agent.store.sqlite_errors import UNWRITABLE, code_of, refusal

STRIPPED = (
    "DELETE FROM attachments",
    "DELETE FROM shared",
    "DELETE FROM held",
    "DELETE FROM first_claims",
    "DELETE FROM meta WHERE key IN ('shared', 'held', 'underlays', 'tunnel_stage', 'drain', 'probe')",
)
FREE = "INSERT OR IGNORE INTO freed (address, released) SELECT address, ? FROM attachments ORDER BY address"
LEAVES = "SELECT address, app, issued, ends FROM last_leaves"
LATER = """INSERT INTO last_leaves (address, app, issued, ends) VALUES (?, ?, ?, ?) ON CONFLICT (address) DO UPDATE
  SET app = excluded.app, issued = excluded.issued, ends = excluded.ends WHERE excluded.ends > ends"""
FREED = "SELECT address, released FROM freed ORDER BY sequence"
FREED_TOO = "INSERT OR IGNORE INTO freed (address, released) VALUES (?, ?)"


def portable(path: Path, *, now: float) -> bytes:
    """The file as bytes, while an agent writes it or not. `now`: seconds since 1970. Raises HostRefused."""
    with _in_words(path), contextlib.closing(_copy(path)) as copy:
        return _stripped(copy, now=now)


def _copy(path: Path) -> sqlite3.Connection:
    """In memory, of the newest version; the file stays as it is."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as found:
            refuse_unsound(found, path)
            copy = sqlite3.connect(":memory:", isolation_level=None)
            found.backup(copy)
    except sqlite3.Error as error:
        if code_of(error) not in UNWRITABLE:
            raise
        return copy_in_memory(path)  # a disk that is full or read-only has no place for SQLite's index
    if schema.version_of(copy) < len(schema.MIGRATIONS):
        schema.migrate(copy)
    return copy


def _stripped(copy: sqlite3.Connection, *, now: float) -> bytes:
    copy.execute("BEGIN")
    copy.execute(FREE, (now,))
    for each in STRIPPED:
        copy.execute(each)
    copy.execute("COMMIT")
    copy.execute("VACUUM")  # what is deleted must not stand in the file, and its header must not ask for a log
    return copy.serialize()


def cell_id_of(content: bytes, *, where: Path) -> str:
    """The id of the cell whose file it is, empty where it has none. Raises HostRefused for what is no sound file of ours."""
    with _in_words(where), contextlib.closing(_opened(content, where)) as found:
        rows = found.execute("SELECT value FROM meta WHERE key = 'cell_id'").fetchall()
    return str(rows[0][0]) if rows else ""


def with_later_leaves(content: bytes, present: bytes, *, where: Path) -> bytes:
    """`content` with what `present`, the same cell's later file, knows of freed addresses and the certificates of each."""
    with (
        _in_words(where),
        contextlib.closing(_opened(content, where)) as found,
        contextlib.closing(_opened(present, where)) as later,
    ):
        found.execute("BEGIN")
        found.executemany(LATER, later.execute(LEAVES).fetchall())
        found.executemany(FREED_TOO, later.execute(FREED).fetchall())
        found.execute("COMMIT")
        return found.serialize()


def _opened(content: bytes, where: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.deserialize(content)
        refuse_unsound(connection, where)
        if schema.version_of(connection) < len(schema.MIGRATIONS):
            schema.migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise refusal(error, path=path) from error
    except HostRefused:
        raise
    except OSError as error:
        raise HostRefused(f"{path}: {error.strerror or error}", hint="see df, mount and the permissions") from error
