"""The history on disk: lines of JSON in two files, of which the older goes when the newer is full.

A third keeps what operators changed for longer: a flood of repairs or cuts, which containers and other programs can make,
must not drive out who did what.

What a crash, a full disk or another program leaves of a line is no entry; such lines are counted where they are read. Nothing
waits for the disk: of what was written in the last seconds before a power loss some may be missing.
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from agent.wording import written_moment
from host.durable import SECRET, Write, make_folder, replace

MOST: Final = 2 << 20  # bytes of each of the two files
SPARED_SHARE: Final = 4  # the third has a fourth of that
LONGEST: Final = 1_000  # characters of what an entry says
HEAD: Final = 64  # bytes in which a line's moment and area are
TAIL: Final = 16 << 10  # bytes in which the last line ends


class HistoryArea(StrEnum):
    """What an entry is about, in the word that users see."""

    AGENT = "agent"  # its starts, stops and changes of its configuration
    ATTACH = "attach"  # attaches that were refused
    CELLS = "cells"  # other cells that come and go
    CERTIFICATES = "certificates"
    CUTS = "cuts"  # connections that were ended
    POLICIES = "policies"
    PROBLEMS = "problems"  # what `status` reported, and when that was over
    REPAIRS = "repairs"  # what another program had changed
    ROUTES = "routes"


SPARED: Final = frozenset((HistoryArea.AGENT, HistoryArea.POLICIES, HistoryArea.ROUTES))


@dataclass(frozen=True, slots=True)
class Caller:
    """The process that asked for it over the socket: `command` is the name that the kernel has of it."""

    uid: int
    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that the agent did or saw. `at` is UTC, in whole seconds."""

    at: datetime
    area: HistoryArea
    what: str
    by: Caller | None = None

    def line(self) -> bytes:
        """As it is on disk."""
        by = None if self.by is None else [self.by.uid, self.by.pid, self.by.command]
        return json.dumps([written_moment(self.at), self.area, self.what[:LONGEST], by]).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "HistoryEntry":
        """The same back. Raises ValueError for what is none."""
        match json.loads(line):
            case [str(at), str(area), str(what), None]:
                by = None
            case [str(at), str(area), str(what), [int(uid), int(pid), str(command)]]:
                by = Caller(uid, pid, command)
            case _:
                raise ValueError("no entry")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is not UTC:
            raise ValueError("no moment in UTC")
        if not what.isprintable() or not (by is None or by.command.isprintable()):
            raise ValueError("a text that could move a terminal's cursor, or that none can write")
        return cls(moment, HistoryArea(area), what, by)


class HistoryFile:
    """`newest` is its path; the others are beside it. One writer at a time; all methods touch the disk."""

    def __init__(self, newest: Path, *, most: int = MOST) -> None:
        self.newest, self._older, self._spared = newest, newest.with_suffix(".old"), newest.with_suffix(".spared")
        self._most = most

    def append(self, entries: Iterable[HistoryEntry]) -> None:
        """All of them or none. Raises OSError."""
        data = b"".join(each.line() for each in entries)
        make_folder(self.newest.parent, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            if self.newest.stat().st_size + len(data) > self._most:
                self._spare()
                self.newest.rename(self._older)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self.newest, flags, SECRET)
        try:
            _append(descriptor, data)
        finally:
            os.close(descriptor)

    def lines(self) -> Iterator[bytes]:
        """All, the newest first. Raises OSError where they cannot be read."""
        for path in (self.newest, self._older, self._spared):
            yield from reversed(self._lines_of(path))

    def _lines_of(self, path: Path) -> list[bytes]:
        with contextlib.suppress(FileNotFoundError):
            return _read(path, at_most=2 * self._most).splitlines()
        return []

    def _spare(self) -> None:
        """What is to outlive the older file, which is about to go."""
        words = tuple(f'", "{area}", "'.encode() for area in SPARED)
        kept, going = list[bytes](), list[bytes]()
        with contextlib.suppress(OSError):  # what another program has put in a file's place is not worth all that is to come
            kept = self._lines_of(self._spared)
            going = [each for each in self._lines_of(self._older) if any(word in each[:HEAD] for word in words)]
        content, most = b"".join(each + b"\n" for each in (*kept, *going)), self._most // SPARED_SHARE
        if len(content) > most:
            content = content[-most:].partition(b"\n")[2]
        replace(Write(self._spared, content, SECRET), lasting=False)

    def last(self) -> HistoryEntry | None:
        """The newest entry, if the last line is one. Raises OSError."""
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            return HistoryEntry.parse(_read(self.newest, at_most=self._most, last=TAIL).splitlines()[-1])
        return None


def _read(path: Path, *, at_most: int, last: int | None = None) -> bytes:
    """All of it, or the last bytes. Another program may have put anything there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, at_most, max(0, size - (last or at_most)))
    finally:
        os.close(descriptor)


def _append(descriptor: int, data: bytes) -> None:
    """What was there before keeps its lines: a torn one at its end gets that end, and a torn one of ours is taken back."""
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    size = about.st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        data = b"\n" + data
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise
