"""Files that are whole or absent after a crash, and that nobody else could read for a moment.

A file is written under a temporary name with its final mode, synced, and only then given its name; the directory is synced
after that. What a crash leaves besides is the temporary name, which the next write of the same file takes away.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ca.errors import CaRefused

PUBLIC, SECRET = 0o644, 0o600


def read(path: Path) -> bytes | None:
    """The file's bytes, or None if there is no such file. Raises CaRefused if it cannot be read."""
    with _told(f"read {path}"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def read_secret(path: Path) -> bytes | None:
    """Like `read`, but refuses a file that others than its owner, this user, may read: the key in it may be known."""
    text = read(path)
    if text is not None:
        status = path.stat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise CaRefused(
                f"{path} may be read by others (mode {status.st_mode & 0o777:04o}, owner {status.st_uid})",
                hint=f"if nobody has: chown {os.geteuid()} {path}; chmod 600 {path}",
            )
    return text


def create(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet. Raises CaRefused if it does, whoever made it."""
    with _told(f"create {path}"):
        temporary = _write_beside(path, content, mode=mode)
        try:
            os.link(temporary, path)
        except FileExistsError as error:
            raise CaRefused(f"{path} exists already", hint="move it away first, if that is what you want") from error
        finally:
            temporary.unlink()
        sync_directory(path.parent)


@dataclass(frozen=True, slots=True)
class Write:
    """One file to be."""

    path: Path
    content: bytes = field(repr=False)
    mode: int


def replace(*writes: Write) -> None:
    """Write files of one directory whether or not they are there: readers see the old bytes or the new.

    All are written out before the first gets its name, so a full disk leaves every old one in place.
    """
    with _told(f"write {writes[0].path}"):
        try:
            ready = [_write_beside(write.path, write.content, mode=write.mode) for write in writes]
        except OSError:
            for write in writes:
                temporary_of(write.path).unlink(missing_ok=True)
            raise
        for temporary, write in zip(ready, writes, strict=True):
            temporary.rename(write.path)
        sync_directory(writes[0].path.parent)


def rename(path: Path, name: str) -> None:
    """Give `path` another name in its directory, in place of what has it."""
    with _told(f"rename {path}"):
        path.rename(path.with_name(name))
        sync_directory(path.parent)


def remove(path: Path) -> None:
    """Take a file away, if it is there. What is not there needs no disk that can be written."""
    with _told(f"remove {path}"):
        if path.is_symlink() or path.exists():
            path.unlink(missing_ok=True)


def make_secret_directory(path: Path) -> None:
    """A directory of mode 0700, never wider. Raises CaRefused if one is there that others can enter.

    It is not narrowed by itself: whoever names /etc by mistake must not lose /etc to everybody else.
    """
    with _told(f"make {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
            path.chmod(0o700)
        except FileExistsError:
            pass
        status = path.stat()
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise CaRefused(
            f"{path} is open to others (mode {status.st_mode & 0o777:04o}, owner {status.st_uid})",
            hint=f"if it is for keys only: chown {os.geteuid()} {path}; chmod 700 {path}",
        )


def make_public_directory(path: Path) -> None:
    """A directory of mode 0755 whatever the umask, if there is none."""
    with _told(f"make {path}"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def sync_directory(path: Path) -> None:
    """Have the names in `path` survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_of(path: Path) -> Path:
    """Where `path` is written before it has its name."""
    return path.with_name(f".{path.name}.new")


def _write_beside(path: Path, content: bytes, *, mode: int) -> Path:
    temporary = temporary_of(path)
    temporary.unlink(missing_ok=True)
    # Made with 0600 whatever the mode will be, so that neither the umask nor a slow write opens a window.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, SECRET)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink()
        raise
    return temporary


@contextmanager
def _told(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CaRefused(f"cannot {doing}: {error.strerror}", hint="see df, mount and the permissions") from error
