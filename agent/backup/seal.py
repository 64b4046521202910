"""The file that holds a backup: one line that says what it is, then the archive, under a passphrase or not.

The line has the format's number, which newer programs count up, and size and digest of what follows: a copy that was cut off or
damaged is told from a wrong passphrase. Under a passphrase the archive is encrypted by AES-256-GCM, with a key that scrypt
makes of it: 128 MB and half a second for each attempt.
"""

import hashlib
import json
import os
from typing import Final

from agent.errors import HostRefused, InvalidInput

MAGIC, FORMAT = b"cellnet-backup ", 1
COST, BLOCK, PARALLEL = 1 << 17, 8, 1  # of scrypt, in format 1
LONGEST_LINE: Final = 4096


def sealed(archive: bytes, *, passphrase: bytes | None) -> bytes:
    """The file's bytes."""
    if passphrase is None:
        return _line(archive, None) + archive
    salt, nonce = os.urandom(16), os.urandom(12)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # slow to import

    content = AESGCM(_key(passphrase, salt)).encrypt(nonce, archive, salt + nonce)
    return _line(content, {"salt": salt.hex(), "nonce": nonce.hex()}) + content


def _line(content: bytes, under: dict[str, str] | None) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    about = {"format": FORMAT, "size": len(content), "sha256": digest, "passphrase": under}
    return MAGIC + json.dumps(about).encode() + b"\n"


def _key(passphrase: bytes, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=salt, length=32, n=COST, r=BLOCK, p=PARALLEL).derive(passphrase)


def is_backup(beginning: bytes) -> bool:
    """Whether a file that begins so is a backup, of whatever version."""
    return beginning.startswith(MAGIC)


def needs_passphrase(content: bytes, *, where: str) -> bool:
    """Whether it is under one. Raises InvalidInput."""
    return _about(content, where=where)[0] is not None


def opened(content: bytes, *, where: str, passphrase: bytes | None) -> bytes:
    """The archive. Raises InvalidInput for what is no whole backup, HostRefused for a wrong passphrase."""
    under, archive = _about(content, where=where)
    if under is None:
        return archive
    if passphrase is None:
        raise HostRefused(f"{where} is under a passphrase", hint="give it: --passphrase-file FILE, or run this on a terminal")
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, nonce = under
    try:
        return AESGCM(_key(passphrase, salt)).decrypt(nonce, archive, salt + nonce)
    except InvalidTag as error:
        raise HostRefused(f"the passphrase does not open {where}", hint="it may be that of another backup") from error


def _about(content: bytes, *, where: str) -> tuple[tuple[bytes, bytes] | None, bytes]:
    """Salt and nonce where it is under a passphrase, and what follows the line."""
    line, end, rest = content[:LONGEST_LINE].partition(b"\n")
    if not is_backup(line) or not end:
        raise InvalidInput(f"{where} is no backup of cellnet", hint="name a file that 'cellnet backup' has made")
    rest = content[len(line) + 1 :]
    try:
        about = json.loads(line.removeprefix(MAGIC))
        number, size, digest, under = int(about["format"]), about.get("size"), about.get("sha256"), about.get("passphrase")
        if number > FORMAT:
            raise HostRefused(
                f"{where} was made by a newer cellnet (format {number}, this one knows {FORMAT})", hint="install that version"
            )
        found = None if under is None else (bytes.fromhex(under["salt"]), bytes.fromhex(under["nonce"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{where} is damaged: its first line makes no sense", hint="take another copy of it") from error
    if len(rest) != size or hashlib.sha256(rest).hexdigest() != digest:
        what = f"it has {len(rest)} bytes of {size}" if len(rest) != size else "its digest is another"
        raise InvalidInput(f"{where} is damaged: {what}", hint="take another copy of it")
    return found, rest
