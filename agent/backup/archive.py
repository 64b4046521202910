"""A backup as bytes and back: a tar, compressed, that any tar lists, read by names that are known and by no path."""

import io
import json
import tarfile
import zlib
from datetime import UTC, datetime
from typing import Final

from agent.backup.contents import Backup, BackupFile, BackupPart
from agent.errors import InvalidInput

ABOUT = "backup.json"
LARGEST: Final = 1 << 30  # bytes, unpacked
GZIP = 31  # zlib's word for it
MODES = 0o755  # what of a mode is kept: only root writes


def packed(backup: Backup) -> bytes:
    """The same bytes for the same backup."""
    about = {
        "cell": backup.cell, "cell_id": backup.cell_id, "version": backup.version, "taken": backup.taken.isoformat(),
    }  # fmt: skip
    made, seconds = io.BytesIO(), int(backup.taken.timestamp())
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, ABOUT, json.dumps(about).encode(), mode=0o600, modified=seconds)
        for each in backup.files:
            _add(tar, f"{each.part.value}/{each.name}", each.content, mode=each.mode & MODES, modified=each.modified)
    pack = zlib.compressobj(wbits=GZIP)
    return pack.compress(made.getvalue()) + pack.flush()


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int, modified: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, modified
    tar.addfile(member, io.BytesIO(content))


def unpacked(content: bytes, *, where: str) -> Backup:
    """Raises InvalidInput for what no `packed` has made."""
    try:
        unpack = zlib.decompressobj(wbits=GZIP)
        plain = unpack.decompress(content, LARGEST)
        if not unpack.eof:
            raise ValueError("it is cut off, or too large")
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as tar:
            found = {member.name: (member, _content(tar, member)) for member in tar}
        about = json.loads(found.pop(ABOUT)[1])
        files = tuple(_file(name, member, each) for name, (member, each) in found.items())
        taken = datetime.fromisoformat(about["taken"]).astimezone(UTC)
        return Backup(str(about["cell"]), str(about["cell_id"]), str(about["version"]), taken, files)
    except (ValueError, KeyError, TypeError, zlib.error, tarfile.TarError) as error:  # InvalidInput is a ValueError
        raise InvalidInput(f"{where} is no backup of cellnet: {error}", hint="take another copy of it") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    if file is None:
        raise ValueError(f"{member.name} is no file")
    return file.read()


def _file(name: str, member: tarfile.TarInfo, content: bytes) -> BackupFile:
    part, _, rest = name.partition("/")
    return BackupFile(BackupPart(part), rest, content, member.mode & MODES, int(member.mtime))
