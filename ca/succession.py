"""Pairs of key and certificate that take the place of others in a CA's directory, whatever moment a crash comes at.

A key and its certificate are two files, so there is always a moment between two writes. The new ones are written under names of
their own, `next.key` and `next.crt` for the cell, `next-root.key` and `next-root.crt` for a root that is yet to sign, and then
renamed. What a crash leaves there:

- `next.key` alone: it never signed anything and goes.
- `next.key` and `next.crt`: the cell's renewal is decided, and both are put in place.
- `next.key` that fits `cell.crt`: only the last rename is missing.
- `next-root.*` and a `next.crt` that it has issued: the root's replacement is decided too, and comes first. Without such a
  `next.crt` the new root waits for all cells to trust it (replacement.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from ca import files
from ca.authority import Authority
from ca.pem import certificates, chain_bytes, fits, key_bytes, private_key
from host.durable import PUBLIC, SECRET, locked, temporary_of

NEXT_ROOT, NEXT_ROOT_KEY = "next-root.crt", "next-root.key"
NEXT, NEXT_KEY = "next.crt", "next.key"


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """One at a time: a start of the agent and commands of the root's owner may meet here. The directory is made if missing."""
    files.make_secret_directory(directory)
    with locked(directory):
        # A crash right after root.key got its name leaves a second name of it, which must not outlast a root moved elsewhere.
        for name in ("root.key", "root.crt", NEXT_ROOT_KEY, NEXT_ROOT, NEXT_KEY, NEXT):
            files.remove(temporary_of(directory / name))
        yield


def put_cell(directory: Path, cell: Authority) -> None:
    """`cell` in place of what was there, and with it the waiting root if that has issued it."""
    files.replace(directory / NEXT_KEY, key_bytes(cell.key), mode=SECRET)
    files.replace(directory / NEXT, chain_bytes(cell.below_root()), mode=PUBLIC)
    finish(directory)


def is_decided(directory: Path) -> bool:
    """Whether there is something to finish."""
    return (directory / NEXT).exists() or (directory / NEXT_KEY).exists()


def finish(directory: Path) -> None:
    """Put in place what is decided, and take away what never signed anything. Within `exclusive`."""
    _finish_root(directory)
    _finish_cell(directory)


def _finish_root(directory: Path) -> None:
    root, cell = files.read(directory / NEXT_ROOT), files.read(directory / NEXT)
    if root is None or cell is None or not _issued(cell, by=root, directory=directory):
        return
    if (directory / NEXT_ROOT_KEY).exists():
        files.rename(directory / NEXT_ROOT_KEY, "root.key")
    files.rename(directory / NEXT_ROOT, "root.crt")


def _issued(cell: bytes, *, by: bytes, directory: Path) -> bool:
    certificate = certificates(cell, where=str(directory / NEXT))[0]
    root = certificates(by, where=str(directory / NEXT_ROOT))[0]
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _finish_cell(directory: Path) -> None:
    key_path, path = directory / NEXT_KEY, directory / NEXT
    key_text = files.read_secret(key_path)
    if key_text is None:
        return
    key = private_key(key_text, where=str(key_path))
    decided = files.read(path)
    current = files.read(directory / "cell.crt")
    if decided is not None and fits(certificates(decided, where=str(path))[0], key):
        files.rename(path, "cell.crt")
        files.rename(key_path, "cell.key")
    elif current is not None and fits(certificates(current, where=str(directory / "cell.crt"))[0], key):
        files.rename(key_path, "cell.key")
    else:
        files.remove(key_path)
