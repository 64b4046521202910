"""The CA's files: read and written with its own refusals, and its secrets only where others can neither read nor write them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ca.errors import CaRefused
from host import durable
from host.durable import Write


def read(path: Path) -> bytes | None:
    """The file's bytes, or None if there is no such file. Raises CaRefused if it cannot be read, or others may write it."""
    text, status = _read(path)
    if status is not None and (status.st_mode & 0o022 or status.st_uid != os.geteuid()):
        raise CaRefused(
            f"{path} may be written by others (mode {status.st_mode & 0o777:04o}, owner {status.st_uid})",
            hint=f"if it is the right one: chown {os.geteuid()} {path}; chmod go-w {path}",
        )
    return text


def read_secret(path: Path) -> bytes | None:
    """Like `read`, but refuses a file that others than its owner, this user, may read: the key in it may be known."""
    text, status = _read(path)
    if status is not None and (status.st_mode & 0o077 or status.st_uid != os.geteuid()):
        raise CaRefused(
            f"{path} may be read by others (mode {status.st_mode & 0o777:04o}, owner {status.st_uid})",
            hint=f"if none has read it: chown {os.geteuid()} {path}; chmod 600 {path}",
        )
    return text


def _read(path: Path) -> tuple[bytes | None, os.stat_result | None]:
    """The bytes of the file, and its owner and mode."""
    with _refusals(f"read {path}"):
        try:
            with path.open("rb") as file:
                return file.read(), os.fstat(file.fileno())
        except FileNotFoundError:
            return None, None


def create(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet. Raises CaRefused if it does, whichever program made it."""
    with _refusals(f"create {path}"):
        try:
            durable.create(path, content, mode=mode)
        except FileExistsError as error:
            raise CaRefused(f"{path} exists already", hint="move it away first, if that is what you want") from error


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file whether or not it is there: readers see the old bytes or the new."""
    with _refusals(f"write {path}"):
        durable.replace(Write(path, content, mode))


def rename(path: Path, name: str) -> None:
    """Give `path` another name in its directory, in place of what has it."""
    with _refusals(f"rename {path}"):
        durable.rename(path, name)


def remove(path: Path) -> None:
    """Take a file away, if it is there. What is not there needs no disk that can be written."""
    with _refusals(f"remove {path}"):
        if path.is_symlink() or path.exists():
            path.unlink(missing_ok=True)


def make_secret_directory(path: Path) -> None:
    """A directory of mode 0700, never wider. Raises CaRefused if one is there that others can enter.

    It is not narrowed by itself: an operator who names /etc by mistake must not lose /etc to all other programs.
    """
    with _refusals(f"make {path}"):
        durable.make_folder(path, mode=0o700)
        status = path.stat()
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise CaRefused(
            f"{path} is open to others (mode {status.st_mode & 0o777:04o}, owner {status.st_uid})",
            hint=f"if it is for keys only: chown {os.geteuid()} {path}; chmod 700 {path}",
        )


@contextmanager
def _refusals(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CaRefused(f"cannot {doing}: {error.strerror}", hint="see df, mount and the permissions") from error
