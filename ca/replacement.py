"""A root that is replaced where it is: in the folder of the cell that has its key, by the root's owner, beside a running agent.

`prepare` makes the new root, which waits beside the old one until all cells trust it. `adopt` has it issue the cell and puts
both in place: the agent takes them up. Either may be repeated; what a crash leaves, succession.py finishes.
"""

from datetime import datetime, timedelta
from pathlib import Path

from ca import files, succession
from ca.authority import Authority, issue_cell, make_root
from ca.certificate import Validity
from ca.disk import CELL_LIFETIME, ROOT_LIFETIME, load_root
from ca.errors import CaRefused
from ca.passphrase import is_encrypted
from ca.pem import certificates, fits, key_bytes, private_key
from ca.succession import NEXT_ROOT, NEXT_ROOT_KEY
from host.durable import PUBLIC, SECRET


def prepare(
    directory: Path,
    *,
    trust_domain: str,
    now: datetime,
    passphrase: bytes | None = None,
    lifetime: timedelta = ROOT_LIFETIME,
) -> bytes:
    """The root (PEM) that waits in `directory`, made if none is valid; its key is encrypted by `passphrase`, if any.

    Raises CaRefused where the present root's key is not here, or needs another passphrase: the next one's has the same place.
    """
    load_root(directory, now=now, passphrase=passphrase)
    with succession.exclusive(directory):
        succession.finish(directory)
        waiting = _waiting(directory, passphrase=passphrase)
        if waiting is not None and Validity.of(waiting.certificate).includes(now):
            return waiting.bundle()
        key = None
        if waiting is None and (text := files.read_secret(directory / NEXT_ROOT_KEY)) is not None:
            key = private_key(text, where=str(directory / NEXT_ROOT_KEY), passphrase=passphrase)
        made = make_root(trust_domain=trust_domain, now=now, lifetime=lifetime, key=key)
        files.remove(directory / NEXT_ROOT)
        if key is None:
            files.replace(directory / NEXT_ROOT_KEY, key_bytes(made.key, passphrase=passphrase), mode=SECRET)
        files.create(directory / NEXT_ROOT, made.bundle(), mode=PUBLIC)
        return made.bundle()


def waiting_root(directory: Path) -> bytes | None:
    """The root (PEM) that waits there."""
    return files.read(directory / NEXT_ROOT)


def is_locked(directory: Path) -> bool:
    """Whether its key is under a passphrase."""
    text = files.read_secret(directory / NEXT_ROOT_KEY)
    return text is not None and is_encrypted(text)


def adopt(
    directory: Path,
    *,
    cell: str,
    trust_domain: str,
    now: datetime,
    passphrase: bytes | None = None,
    lifetime: timedelta = CELL_LIFETIME,
) -> None:
    """Put the waiting root in place, with a certificate of the cell that it has issued; the former root's key is gone then.

    Nothing happens where no root waits. Raises CaRefused for another passphrase.
    """
    with succession.exclusive(directory):
        succession.finish(directory)
        waiting = _waiting(directory, passphrase=passphrase)
        if waiting is not None:
            mine = issue_cell(waiting, cell=cell, trust_domain=trust_domain, now=now, lifetime=lifetime)
            succession.put_cell(directory, mine)


def discard(directory: Path) -> None:
    """Take away a root that waits in vain: another was taken in its place."""
    with succession.exclusive(directory):
        succession.finish(directory)
        files.remove(directory / NEXT_ROOT)
        files.remove(directory / NEXT_ROOT_KEY)


def _waiting(directory: Path, *, passphrase: bytes | None) -> Authority | None:
    path, key_path = directory / NEXT_ROOT, directory / NEXT_ROOT_KEY
    text, key_text = files.read(path), files.read_secret(key_path)
    if text is None or key_text is None:
        return None
    certificate = certificates(text, where=str(path))[0]
    key = private_key(key_text, where=str(key_path), passphrase=passphrase)
    if not fits(certificate, key):
        raise CaRefused(f"{key_path} is not the key of {path}", hint="move both away: a new root is made")
    return Authority((certificate,), key)
