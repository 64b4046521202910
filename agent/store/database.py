"""The cell's SQLite file: one door for transactions, every refusal in the operator's words, and the way out of a refusal.

WAL, so that readers never wait. How much a commit costs is the caller's choice (`durable`): what is reported as done (a policy
applied or deleted) is synced to the disk before the answer; what dies with the boot anyway (attachments, addresses, and tags,
which mean something only in this host's kernel) only has to survive a kill, which the page cache grants. A power loss then
costs the ledger at most its last entries, never its consistency, and the next start sweeps everything of an earlier boot. A
sync takes milliseconds at best, in which the agent does nothing else.

What was refused is reported as `trouble` until it works again. `run` tries it again, and finds damage before a restart does.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from agent import log
from agent.complaint import Complaints
from agent.errors import HostRefused
from agent.model.status import Part, Problem, as_problems
from agent.store.file import copy_in_memory, inspect, make_if_missing, open_sound
from agent.store.sqlite_errors import DAMAGED, LOCKED, UNWRITABLE, code_of, refusal

Value = str | int | float | None
Version: TypeAlias = tuple[int, ...]
NEVER: Version = ()  # before the first answer
BUSY_TIMEOUT = 2.0
PROBE = "x" * 65536  # more than any change needs
TRY_AGAIN = 1.0  # seconds between attempts while something is wrong
INSPECT = 5.0  # seconds between looks at the whole file, past every cache


class Database(Part):
    """One connection, used by the thread that opened it (the event loop's). `patience`: seconds to wait for a lock."""

    def __init__(self, path: Path, *, patience: float = BUSY_TIMEOUT) -> None:
        """Open `path`, made with its folder where missing. Raises HostRefused, with what to do; never replaces a file.

        One that can be read and not written, on a disk that is full or read-only, is served from a copy in memory.
        """
        self.path = path
        self._patience = patience
        self._times_opened = 0
        self._refused: HostRefused | None = None
        self._damage: HostRefused | None = None
        self._unread: dict[str, HostRefused] = {}
        self._stale = False  # whether the connection is on a copy, or has met damage: it is made anew before the next write
        with self._in_words():
            make_if_missing(path)
            try:
                self._use(open_sound(path, patience=patience))
            except sqlite3.Error as error:
                if code_of(error) not in UNWRITABLE:
                    raise
                self._use(self._copy(error))
                self._refused, self._stale = _host_refusal(refusal(error, path=path)), True

    def _copy(self, reason: sqlite3.Error) -> sqlite3.Connection:
        try:
            return copy_in_memory(self.path)
        except OSError:
            raise reason from None

    def _use(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        self._connection = connection
        self._identity = _identity(self.path)
        self._times_opened += 1

    @property
    def trouble(self) -> HostRefused | None:
        """Why the file cannot be written or relied on, as far as is known; None while all is well."""
        return self._damage or next(iter(self._unread.values()), None) or self._refused

    def problems(self) -> tuple[Problem, ...]:
        """See `trouble`."""
        return as_problems("store", self.trouble)

    @property
    def damaged(self) -> bool:
        """Whether damage was met, or found by the last inspection."""
        return self._damage is not None

    def read(self, sql: str, *values: Value) -> list[sqlite3.Row]:
        """All rows of a query, inside a transaction too."""
        with self._in_words():
            return self._connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Everything inside or nothing. `durable`: on the disk before it returns. Raises HostRefused where it cannot be."""
        with self._in_words():
            self._be_writable()
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")  # takes the write lock now, not half-way
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                # SQLite has rolled back by itself after some errors, and has not after others.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        if self._refused is not None:
            self._refused = None
            self._wait_for_locks(self._patience)

    def try_again(self) -> bool:
        """Whether what was refused works again: a change larger than any of ours is made and taken back."""
        try:
            for sql in ("INSERT OR REPLACE INTO meta (key, value) VALUES ('probe', ?)", "DELETE FROM meta WHERE value = ?"):
                with self.transaction(durable=False) as connection:
                    connection.execute(sql, (PROBE,))
        except HostRefused:
            return False
        return True

    @contextlib.contextmanager
    def kept(self, what: str, *, was_read: bool) -> Iterator[None]:
        """Inside, `what` is read. Where it cannot be, it is served as it was read last, which is reported.

        Raises HostRefused where it was never read.
        """
        try:
            yield
        except HostRefused as error:
            if not was_read:
                raise
            self._unread[what] = error
        else:
            self._unread.pop(what, None)

    async def run(self, on_mended: Callable[[], None]) -> None:
        """For ever. `on_mended` is called when what was refused works again: the attempt may have been given up meanwhile."""
        complaints = Complaints(log.get("store"), failed="database_failed", recovered="database_recovered")
        clock = asyncio.get_running_loop().time
        due = clock() + INSPECT
        while True:
            await asyncio.sleep(TRY_AGAIN)
            if clock() >= due or self.damaged:
                self.set_inspected(await asyncio.to_thread(inspect, self.path))
                due = clock() + INSPECT
            trouble = self.trouble
            if trouble is None:
                complaints.over()
                continue
            complaints.about(trouble)
            if self.try_again() and not self.damaged:
                self._unread.clear()  # by the next turn, or whenever it is asked for: what cannot be read then says so again
                on_mended()

    def set_inspected(self, found: HostRefused | None) -> None:
        """Take what `inspect` has found: damage, or that there is none any more, so that the file is read anew."""
        mended, self._damage = found is None and self._damage is not None, found
        self._stale |= found is not None
        if mended:
            with contextlib.suppress(HostRefused), self._in_words():
                self._be_writable()

    def version(self) -> Version:
        """Differs from an earlier answer if anything was written since. Ask outside of transactions only."""
        return (*self.foreign_version(), self._connection.total_changes)

    def foreign_version(self) -> Version:
        """Differs from an earlier answer if another process has written since, or the file was opened anew."""
        with self._in_words():
            (foreign,) = self._connection.execute("PRAGMA data_version").fetchone()
        return (self._times_opened, int(foreign))

    def close(self) -> None:
        """Close the file. Twice is fine."""
        self._connection.close()

    def _be_writable(self) -> None:
        if self._damage is not None:
            # a write would be lost with the rest; a new error, since the traceback of one that is raised again grows
            raise HostRefused(self._damage.what, hint=self._damage.hint)
        if _identity(self.path) != self._identity:
            raise HostRefused(
                f"{self.path} is not the file that was opened: it was moved, removed or replaced",
                hint="put it back, or restart the agent to use what is there now",
            )
        if self._stale:
            before = self._connection
            self._use(open_sound(self.path, patience=0.0))
            self._stale = False
            before.close()

    def _wait_for_locks(self, seconds: float) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            found = refusal(error, path=self.path)
            self._refused = _host_refusal(found) or self._refused
            if code_of(error) in LOCKED:
                self._wait_for_locks(0.0)  # one wait is enough: no client is served meanwhile
            if code_of(error) in DAMAGED:
                self._damage, self._stale = _host_refusal(found), True  # until it is inspected
            raise found from error
        except HostRefused as error:
            self._refused = error
            raise


def _host_refusal(error: Exception) -> HostRefused | None:
    return error if isinstance(error, HostRefused) else None


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of what is at `path`."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
