"""SQLite's errors in the words of this host's operator, as it is nearly always the host that must be mended."""

import sqlite3
from pathlib import Path

from agent.errors import Bug, HostRefused

Words = tuple[str, str]

BUSY = ("another process holds it locked", "end the process that works on it, for instance a sqlite3 shell")
# Primary result codes (the extended ones carry them in their low byte).
WORDS: dict[int, Words] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "make room on its file system; nothing was changed"),
    sqlite3.SQLITE_IOERR: ("the disk failed", "look at the kernel's log and the free space; nothing was changed"),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "mount its file system read-write"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "check that it is a file on a local, writable file system"),
    sqlite3.SQLITE_PERM: ("access is denied", "run the agent as root"),
    sqlite3.SQLITE_AUTH: ("access is denied", "run the agent as root"),
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_NOMEM: ("there is no memory left", "free some memory"),
    sqlite3.SQLITE_NOLFS: ("it is too large for its file system", "move it to another file system"),
}
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# a disk that is full or read-only, which has no place for what SQLite keeps beside the file
UNWRITABLE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


def code_of(error: sqlite3.Error) -> int:
    """The primary result code. The module's own errors (a closed connection, say) carry none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def refusal(error: sqlite3.Error, *, path: Path) -> HostRefused | Bug:
    """The error to raise for one of SQLite's. A broken constraint or bad SQL is cellnet's own mistake, so a Bug."""
    code = code_of(error)
    if code in DAMAGED:
        return damaged(path, str(error))
    if code in WORDS:
        why, hint = WORDS[code]
        return HostRefused(f"{path}: {why} ({error})", hint=hint)
    return Bug(f"{path}: {error}")


def damaged(path: Path, why: str) -> HostRefused:
    """For a file that is no sound database. It is never replaced by an empty one: policies in it would be lost unseen."""
    return HostRefused(
        f"{path} is damaged: {why}",
        hint=f"stop the agent, move {path}* away (all of them; `sqlite3 FILE .recover` may save policies), start again,"
        " then attach containers and apply store policies again; policy files are not affected",
    )
