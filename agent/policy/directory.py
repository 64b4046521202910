"""The policy directory followed for ever: inotify says when to look, a look every few seconds finds what it did not say.

Events are hints, never facts: each only leads to a scan. What they add is knowing when a writer has finished, so that
half a file is never taken for a whole one, and what was touched while we read.
"""

import asyncio
import os
import stat
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

from agent.policy.files import SETTLE, PolicyFiles

__all__ = ["PolicyFiles", "watch"]

PERIOD = 5.0  # seconds between looks without an event: targets of links, file systems without inotify
POLL = 1.0  # the same where there is no inotify at all, and while a copy could not be kept
COMPLETE = Mask.CLOSE_WRITE | Mask.MOVED_TO
GONE = Mask.DELETE | Mask.MOVED_FROM
INSIDE = COMPLETE | GONE | Mask.MODIFY | Mask.CREATE | Mask.ATTRIB | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
ABOVE = Mask.CREATE | GONE | Mask.MOVED_TO | Mask.ONLYDIR


async def watch(
    files: PolicyFiles, on_change: Callable[[], None], *, clock: Callable[[], float] = time.monotonic, period: float = PERIOD
) -> None:
    """Scan at once, then at every event, and every `period` seconds; call `on_change` after each change. Runs until cancelled.

    Whoever else scans `files` need not tell: what has changed since the last call of `on_change` is announced.
    """
    announced: tuple[object, object] = (files.policies(), files.problems())
    with _Events(files.directory) as events:
        while True:
            files.note_watch(events.arm())
            closed, reread = events.take()
            files.scan(clock(), closed=closed, reread=reread, unsettled=events.drain)
            announced = _announce(files, on_change, announced)
            if copies := files.unsaved:
                files.note_saved(copies, await asyncio.to_thread(files.save, copies))  # fsync: takes its time
                announced = _announce(files, on_change, announced)
            wakeup = files.next_wakeup()
            limit = period if events.armed and not files.unsaved else min(period, POLL)
            await events.wait(limit if wakeup is None else max(0.0, min(limit, wakeup - clock())))


def _announce(files: PolicyFiles, on_change: Callable[[], None], before: tuple[object, object]) -> tuple[object, object]:
    now = (files.policies(), files.problems())
    if now[0] is not before[0] or now[1] is not before[1]:
        on_change()
    return now


class _Events:
    """What inotify tells of the directory and of the one above it, summed up until `take`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._inotify: Inotify | None = None
        self._inside: Watch | None = None
        self._above: Watch | None = None
        self._closed: set[str] = set()
        self._reread = True
        self._due = False
        self._writing = False
        self._failure = ""  # why there was nothing to hear since the last `arm`

    def __enter__(self) -> "_Events":
        return self

    def __exit__(self, *_: object) -> None:
        if self._inotify is not None:
            self._inotify.close()

    @property
    def armed(self) -> bool:
        """Whether changes are noticed at once."""
        return self._inotify is not None

    def arm(self) -> str:
        """Watch the directory that now has the name, and the nearest one above it. Returns why not, or nothing."""
        try:
            if self._inotify is None:
                self._inotify = Inotify(sync_timeout=0)
            self._above = self._watched(self._above, self._nearest_above(), ABOVE)  # first: what comes after is seen
            inside = self._watched(self._inside, self._directory, INSIDE)
            if inside is not self._inside:
                self._inside, self._reread = inside, True
        except Exception as error:
            self._give_up()
            return _unwatched(error)
        failure, self._failure = self._failure, ""
        return failure

    def _give_up(self) -> None:
        """Until it is armed again, nothing is noticed at once, and what has been is not known."""
        self.__exit__()
        self._inotify = self._inside = self._above = None
        self._reread = self._due = True

    def take(self) -> tuple[Collection[str], bool]:
        """The files whose writers have finished since the last call, and whether everything must be read again."""
        self.drain()
        taken = (frozenset(self._closed), self._reread)
        self._closed, self._reread, self._due = set(), False, False
        return taken

    def drain(self) -> Collection[str]:
        """Take in what inotify has to tell; the names of the files whose content it was about."""
        names: set[str] = set()
        while self._inotify is not None and (event := self._next()) is not None:
            self._sort(event)
            if not event.mask & Mask.ATTRIB:
                names.add(str(event.name or ""))
        return names

    def _next(self) -> Event | None:
        assert self._inotify is not None
        try:
            return self._inotify.sync_get()
        except Exception as error:
            self._failure = _unwatched(error)
            self._give_up()
            return None

    async def wait(self, seconds: float) -> None:
        """Return when there is reason to scan, or after `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not self._due:
            limit = min(deadline, loop.time() + SETTLE) if self._writing else deadline
            self._writing = False
            told = self._inotify is not None and await _readable(self._inotify.fd, limit - loop.time())
            if self._inotify is None:
                await asyncio.sleep(seconds)
            self.drain()
            if not told:
                return

    def _sort(self, event: Event) -> None:
        """Note what one event means."""
        name = str(event.name or "")
        if Mask.Q_OVERFLOW in event.mask:
            self._reread = self._due = True
        elif self._above is not None and event.watch is self._above and event.watch is not self._inside:
            self._due |= self._is_ours(name)
        elif event.mask & COMPLETE or (Mask.CREATE in event.mask and self._is_whole(name)):
            self._closed.add(name)
            self._due = True
        elif event.mask & (Mask.MODIFY | Mask.CREATE):
            self._closed.discard(name)  # somebody has begun to write, and will close it
            self._writing = True
        else:
            if event.mask & GONE:
                self._closed.discard(name)
            self._due = True  # a mode that changes after the end, as `install` does, does not undo the end

    def _is_ours(self, name: str) -> bool:
        """Whether a change above is about the directory, or about one on the way to it."""
        assert self._above is not None
        path = self._above.path / name
        return path == self._directory or path in self._directory.parents

    def _is_whole(self, name: str) -> bool:
        """A link comes with its content; whoever creates a file has yet to write and close it."""
        try:
            seen = os.lstat(self._directory / name)
        except OSError:
            return False
        return stat.S_ISLNK(seen.st_mode) or seen.st_nlink > 1

    def _nearest_above(self) -> Path:
        return next(path for path in self._directory.parents if path.is_dir())

    def _watched(self, old: Watch | None, path: Path, mask: Mask) -> Watch | None:
        """The watch on what `path` is now, None where there is no such directory; one on something else is dropped."""
        assert self._inotify is not None
        try:
            new = self._inotify.add_watch(path, mask)
        except (FileNotFoundError, NotADirectoryError):
            new = None
        if old is not None and old is not new:
            with suppress(OSError):  # gone with its directory
                self._inotify.rm_watch(old)
        return new


def _unwatched(error: Exception) -> str:
    return f"cannot be watched: {getattr(error, 'strerror', None) or error}"


async def _readable(descriptor: int, seconds: float) -> bool:
    """Whether the descriptor has something to read within `seconds`."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if future.done() else future.set_result(None))
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await future
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True
