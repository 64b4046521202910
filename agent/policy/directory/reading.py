"""One look at the policy directory: which files there are, and the bytes of one of them if it may be believed.

A policy opens ports on behalf of root, so only what root alone can write counts, and nothing that is opened may hang.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.config.source import MAX_BYTES
from host.trust import distrust

SUFFIX, BACKUP = ".yaml", "~"


class Unbelievable(Exception):
    """The directory or file cannot or must not be read now; its last good version stays in force."""

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file's content, owner or mode does; equal stamps need no reading."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    mode: int
    owner: int

    @classmethod
    def of(cls, seen: os.stat_result) -> "Stamp":
        """The stamp of a stat result."""
        return cls(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_mode, seen.st_uid)


@dataclass(frozen=True, slots=True)
class Folder:
    """An open policy directory: its descriptor, the names of the policy files in it, and what else is there to be seen."""

    descriptor: int
    names: frozenset[str]
    others: frozenset[str]

    def why_unread(self, name: str) -> tuple[str, str]:
        """Why one of the `others` is not read, and what to do."""
        try:
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=self.descriptor).st_mode)
        except OSError:
            is_folder = False
        if is_folder:
            return "is not read: policy files stand in the directory itself", "move its files up, or move it away"
        stem = name.rpartition(".")[0] if name.lower().endswith((".yml", ".yaml", ".json")) else name
        wanted = f"{stem}{SUFFIX}" if name.isprintable() else f"NAME{SUFFIX}"
        return f"is not read: the name of a policy file ends in {SUFFIX}", f"rename it to {wanted}, or move it away"

    def stamp(self, name: str) -> Stamp:
        """The stamp of the file, or of what it links to. Raises FileNotFoundError where it has vanished, Unbelievable."""
        try:
            seen = os.stat(name, dir_fd=self.descriptor)
        except FileNotFoundError as error:
            os.lstat(name, dir_fd=self.descriptor)
            raise Unbelievable("is a link that points nowhere", hint="mend the link or remove it") from error
        except OSError as error:
            raise Unbelievable(f"cannot be read: {error.strerror}", hint="check the file and what it links to") from error
        if not stat.S_ISREG(seen.st_mode):  # before it is opened: opening a device may do something
            raise Unbelievable("is not a regular file", hint="only regular files and links to them hold policies")
        _check_trust(seen, "chown root FILE && chmod go-w FILE")
        return Stamp.of(seen)

    def read(self, name: str) -> bytes:
        """The content, up to one byte more than is allowed. Raises as `stamp`."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=self.descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unbelievable(f"cannot be read: {error.strerror}", hint="check the permissions of the file") from error
        try:
            opened = os.fstat(descriptor)  # what is open may be another file than what was looked at
            if not stat.S_ISREG(opened.st_mode):
                raise Unbelievable("is not a regular file", hint="only regular files and links to them hold policies")
            _check_trust(opened, "chown root FILE && chmod go-w FILE")
            return _all_of(descriptor)
        except OSError as error:
            raise Unbelievable(f"cannot be read: {error.strerror}", hint="check the disk") from error
        finally:
            os.close(descriptor)


@contextmanager
def opened(directory: Path) -> Iterator[Folder | None]:
    """The directory for one scan, None where there is none. Raises Unbelievable."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise Unbelievable(f"cannot be read: {error.strerror}", hint="it must be a directory of root's") from error
    try:
        _check_trust(os.fstat(descriptor), f"chown root {directory} && chmod go-w {directory}")
        try:
            seen = frozenset(name for name in os.listdir(descriptor) if not name.startswith("."))
        except OSError as error:
            raise Unbelievable(f"cannot be listed: {error.strerror}", hint="check the disk") from error
        names = frozenset(name for name in seen if name.endswith(SUFFIX))
        yield Folder(descriptor, names, frozenset(name for name in seen - names if not name.endswith(BACKUP)))
    finally:
        os.close(descriptor)


def _check_trust(seen: os.stat_result, hint: str) -> None:
    if why := distrust(seen):
        raise Unbelievable(why, hint=hint)


def _all_of(descriptor: int) -> bytes:
    parts: list[bytes] = []
    left = MAX_BYTES + 1
    while left > 0 and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
