"""The cell's SQLite file: opened with care, one door for transactions, every refusal in the operator's words.

WAL, so that readers never wait. How much a commit costs is the caller's choice (`durable`): what somebody was told is
done (a policy applied or deleted) is synced to the disk before the answer; what dies with the boot anyway (attachments,
addresses, and tags, which mean something only in this host's kernel) only has to survive a kill, which the page cache
grants. A power loss then costs the book at most its last entries, never its consistency, and the next start sweeps
everything of an earlier boot. A sync takes milliseconds at best, in which the agent does nothing else.
"""

import contextlib
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.errors import HostRefused
from agent.store import schema
from agent.store.refusal import damaged, refusal

Value = str | int | float | None
BUSY_TIMEOUT = 2.0


class Database:
    """One connection, used by the thread that opened it (the event loop's). `patience`: seconds to wait for a lock."""

    def __init__(self, path: Path, *, patience: float = BUSY_TIMEOUT) -> None:
        """Open `path`, made with its folder where missing. Raises HostRefused, which says what to do; never replaces a file."""
        self.path = path
        with self._in_words():
            make_if_missing(path)
            self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
        try:
            with self._in_words():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def read(self, sql: str, *values: Value) -> list[sqlite3.Row]:
        """All rows of a query, inside a transaction too."""
        with self._in_words():
            return self._connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Everything inside or nothing. `durable`: on the disk before it returns. Raises HostRefused where it cannot be."""
        with self._in_words():
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")  # takes the write lock now, not half-way
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                # SQLite has rolled back by itself after some errors, and has not after others.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def version(self) -> tuple[int, int]:
        """Differs from an earlier answer if anybody has written since. Ask outside of transactions only."""
        with self._in_words():
            (foreign,) = self._connection.execute("PRAGMA data_version").fetchone()
        return (self._connection.total_changes, int(foreign))

    def close(self) -> None:
        """Give the file up. Twice is fine."""
        self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise damaged(self.path, str(answer))
        if not schema.is_ours(connection):
            raise HostRefused(
                f"{self.path} is not cellnet's database", hint="choose another state folder, or move the file away"
            )
        found, known = schema.version_of(connection), len(schema.MIGRATIONS)
        if found > known:
            raise HostRefused(
                f"{self.path} was written by a newer cellnet (schema {found}, this one knows {known})",
                hint="install the newer version again",
            )
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise HostRefused(f"{self.path}: its file system has no shared memory for SQLite", hint="use a local disk")
        if found < known:  # or every start would need the write lock
            schema.migrate(connection)

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise refusal(error, path=self.path) from error


def make_if_missing(path: Path) -> None:
    """See to it that `path` is a private regular file in a folder that only we can write; new ones are put in place whole.

    So an empty or half-written file is always damage and never taken for a new one. The file is never opened here:
    closing any descriptor of it would drop the locks that SQLite holds for this process.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HostRefused(f"{path.parent} can be written by others", hint=f"chmod go-w {path.parent}")
        # The log is looked for before the file: another process may be making both in that order just now.
        log = path.with_name(path.name + "-wal")
        if log.exists() and not path.exists():
            raise HostRefused(
                f"{path} is missing, but {log.name} with its last changes is there",
                hint=f"put the file back, or move {log} away too; it would be played into the new one",
            )
        if not path.exists():
            put_whole(path, schema.blank())
        check_file(path)
    except HostRefused:
        raise
    except OSError as error:
        raise HostRefused(f"{path}: {error.strerror}", hint="check the folder, the free space and the mount") from error


def check_file(path: Path) -> None:
    """A regular file of more than nothing, mode 0600 from now on."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise HostRefused(f"{path} is not a file", hint="move it away")
    if found.st_size == 0:
        raise damaged(path, "it is empty")
    if stat.S_IMODE(found.st_mode) != 0o600:
        path.chmod(0o600)


def put_whole(path: Path, content: bytes) -> None:
    """Make `path` with all its content at once, mode 0600; one that somebody else made meanwhile is left as it is."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
