"""What inotify says of the policy directory: of what is in it, and of every link on the way to it and to its files.

A link that is swapped is taken for a rename: what it leads to is complete. So Kubernetes' `..data`, a release that is
switched by one link, and a directory that is a link itself take effect at once.
"""

import asyncio
import os
import stat
from collections.abc import Collection, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

from agent.policy.directory.files import SETTLE
from host.links import Entry, Walk

COMPLETE = Mask.CLOSE_WRITE | Mask.MOVED_TO
GONE = Mask.DELETE | Mask.MOVED_FROM
INSIDE = COMPLETE | GONE | Mask.MODIFY | Mask.CREATE | Mask.ATTRIB | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
AROUND = COMPLETE | GONE | Mask.CREATE | Mask.ONLYDIR | Mask.MASK_ADD  # the folder may be the directory itself
TARGET = Mask.MODIFY | Mask.ATTRIB | Mask.MASK_ADD
TURNS = 5  # links may be swapped while they are followed

ALL = ""
Ways = Mapping[Entry, frozenset[str]]
"""On the way to which files an entry is; `ALL` where it is on the way to the directory."""


@dataclass(frozen=True, slots=True)
class Finished(Container[str]):
    """The files whose writers have finished: after a swap of the directory (`ALL`) each but those that were `begun` since."""

    names: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return name in self.names or (ALL in self.names and name not in self.begun)


class DirectoryEvents:
    """Summed up until `take`. A context, at whose end nothing is watched any more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._inotify: Inotify | None = None
        self._inside: Watch | None = None
        self._around: Mapping[tuple[Watch, str], frozenset[str]] = {}
        self._closed: set[str] = set()
        self._begun: set[str] = set()
        self._reread = True
        self._due = False
        self._writing = False
        self._failure = ""  # why there was nothing to hear since the last `arm`

    def __enter__(self) -> "DirectoryEvents":
        return self

    def __exit__(self, *_: object) -> None:
        if self._inotify is not None:
            self._inotify.close()

    @property
    def armed(self) -> bool:
        """Whether changes are noticed at once."""
        return self._inotify is not None

    def arm(self) -> str:
        """Watch the directory that now has the name, and what leads there and to its files. Returns why not, or nothing."""
        try:
            if self._inotify is None:
                self._inotify = Inotify(sync_timeout=0)
            self._arm(self._inotify)
        except Exception as error:
            self._give_up()
            return _unwatched(error)
        failure, self._failure = self._failure, ""
        return failure

    def _arm(self, inotify: Inotify) -> None:
        """Until a walk along all ways meets watched folders only: what changes from then on is heard."""
        before = {watch for watch, _ in self._around} | ({self._inside} if self._inside else set())
        known = set(before)
        for _ in range(TURNS):
            around = _watched_ways(inotify, self._ways())  # before the directory: what comes after is heard
            inside = _watched(inotify, self._directory, INSIDE | Mask.MASK_ADD)
            found = {watch for watch, _ in around} | ({inside} if inside else set())
            self._around = around
            if inside is not self._inside:
                self._inside, self._reread = inside, True
            if found <= known:
                break
            known |= found
        for watch in known - found:
            with suppress(OSError):  # gone with its folder
                inotify.rm_watch(watch)

    def _ways(self) -> Ways:
        found: dict[Entry, frozenset[str]] = {}
        links: list[str] = []
        with suppress(OSError), os.scandir(self._directory) as entries:
            links = [each.name for each in entries if each.is_symlink()]
        walk = Walk()
        for name in (ALL, *links):
            for entry in walk.way(f"{self._directory}/{name}"):
                found[entry] = found.get(entry, frozenset()) | {name}
        return found

    def _give_up(self) -> None:
        """Until it is armed again, nothing is noticed at once, and what has been is not known."""
        self.__exit__()
        self._inotify = self._inside = None
        self._around = {}
        self._reread = self._due = True

    def take(self) -> tuple[Finished, bool]:
        """The files whose writers have finished since the last call, and whether everything must be read again."""
        self.drain()
        taken = (Finished(frozenset(self._closed), frozenset(self._begun)), self._reread)
        self._closed, self._begun, self._reread, self._due = set(), set(), False, False
        return taken

    def drain(self) -> Collection[str]:
        """Take in what inotify has to tell; the names of the files whose content it was about."""
        names: set[str] = set()
        while self._inotify is not None and (event := self._next()) is not None:
            self._sort(event)
            if not event.mask & Mask.ATTRIB:
                names |= {str(event.name or ""), *self._affected(event)}
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

    def _affected(self, event: Event) -> frozenset[str]:
        if event.watch is None:
            return frozenset()
        return self._around.get((event.watch, str(event.name or "")), frozenset())

    def _sort(self, event: Event) -> None:
        """Note what one event means."""
        name = str(event.name or "")
        if Mask.Q_OVERFLOW in event.mask or event.watch is None:
            self._reread = self._due = True
            return
        if event.watch is self._inside:
            self._note(event, {name}, path=self._directory / name)
        if names := self._affected(event):
            self._note(event, names, path=event.watch.path / name)

    def _note(self, event: Event, names: Collection[str], *, path: Path) -> None:
        """What an event about `path` means for these files."""
        is_folder = Mask.ISDIR in event.mask  # one that is renamed into place may be written to already; a link has its content
        if not is_folder and (event.mask & COMPLETE or (Mask.CREATE in event.mask and _is_whole(path))):
            self._closed |= set(names)
            self._begun -= set(names)
            self._due = True
        elif not is_folder and event.mask & (Mask.MODIFY | Mask.CREATE):
            self._closed -= set(names)  # a writer has begun, and will close it
            self._begun |= set(names)
            self._writing = True
        else:
            if event.mask & GONE:
                self._closed -= set(names)
            self._due = True  # a mode that changes after the end, as `install` does, does not undo the end


def _watched_ways(inotify: Inotify, ways: Ways) -> Mapping[tuple[Watch, str], frozenset[str]]:
    """The watches on the folders of all entries, and on the files at their ends."""
    found: dict[tuple[Watch, str], frozenset[str]] = {}
    folders: dict[str, Watch | None] = {}
    for entry, names in ways.items():
        if entry.folder not in folders:
            folders[entry.folder] = _watched(inotify, Path(entry.folder), AROUND)
        watch = folders[entry.folder]
        target = _watched(inotify, Path(entry.path), TARGET) if _is_file(entry.path) else None
        for key in ((watch, entry.name), (target, "")):
            if key[0] is not None:
                found[key[0], key[1]] = found.get((key[0], key[1]), frozenset()) | names
    return found


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _watched(inotify: Inotify, path: Path, mask: Mask) -> Watch | None:
    """The watch on what `path` is now, None where there is nothing that could be watched."""
    try:
        return inotify.add_watch(path, mask)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_whole(path: Path) -> bool:
    """A link comes with its content; whoever creates a file has yet to write and close it."""
    try:
        seen = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(seen.st_mode) or seen.st_nlink > 1


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
