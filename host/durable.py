"""Files that are whole or absent after a crash, and folders; both with the modes that were asked for, whatever the umask.

A file is written under a temporary name with its final mode, synced, and only then given its name; the folder is synced after
that. What a crash leaves besides is the temporary name, which the next write of the same file takes away. So each file has one
writer at a time; writers that may meet use `locked`. All functions raise OSError.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SECRET, PUBLIC = 0o600, 0o644
LONGEST = 240  # bytes of a name in its temporary name: 255 is what a file system takes


@dataclass(frozen=True, slots=True)
class Write:
    """One file to be. `owner` is its uid and gid, where they are not ours."""

    path: Path
    content: bytes = field(repr=False)
    mode: int
    owner: tuple[int, int] | None = None


def create(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet. Raises FileExistsError if it does, whichever program made it."""
    temporary = _write_beside(Write(path, content, mode))
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def replace(*writes: Write, lasting: bool = True) -> None:
    """Write files of one folder whether or not they are there: readers see the old bytes or the new.

    All are written out before the first gets its name, so a full disk leaves every old one in place. What is not `lasting` goes
    with the boot: the disk, if it is on one, is not waited for.
    """
    try:
        ready = [_write_beside(write, lasting=lasting) for write in writes]
        for temporary, write in zip(ready, writes, strict=True):
            temporary.rename(write.path)
    except OSError:
        for write in writes:
            temporary_of(write.path).unlink(missing_ok=True)
        raise
    if lasting:
        sync_folder(writes[0].path.parent)


def rename(path: Path, name: str) -> None:
    """Give `path` another name in its folder, in place of what has it."""
    path.rename(path.with_name(name))
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Have the names in `path` survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, *, mode: int) -> None:
    """A folder of this mode, and above it those that are missing, of mode 0755. One that is there keeps its mode."""
    try:
        path.mkdir(mode=mode)
    except FileNotFoundError:
        make_folder(path.parent, mode=0o755)
        make_folder(path, mode=mode)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(mode)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process, and one block of it, at a time; waits for the others."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def temporary_of(path: Path) -> Path:
    """Where `path` is written before it has its name."""
    return path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:LONGEST])}.new")


def _write_beside(write: Write, *, lasting: bool = True) -> Path:
    temporary = temporary_of(write.path)
    temporary.unlink(missing_ok=True)
    # Made with 0600 whatever the mode will be, so that neither the umask nor a slow write opens a window.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, SECRET)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(write.content)
            if write.owner is not None:
                os.fchown(file.fileno(), *write.owner)
            os.fchmod(file.fileno(), write.mode)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
    except OSError:
        temporary.unlink()
        raise
    return temporary
