"""agent.yaml on disk: its bytes at the start, and whether it is still the same."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from agent.config.source import MAX_BYTES
from agent.errors import HostRefused
from host.trust import ROOT, require_trusted


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The file as it was read. `digest` is of its content, None where there was no file."""

    path: Path
    digest: bytes | None

    def change(self) -> str:
        """What has become of it since, in words; empty while it is the same. Raises HostRefused where it cannot be read."""
        content = read(self.path)
        if content is None:
            return "" if self.digest is None else "is gone"
        if self.digest is None:
            return "was not there when the agent started"
        return "" if digest_of(content) == self.digest else "has changed since the agent started"


def pending_file(config_file: Path) -> Path:
    """Where a backup stands that is decided to take the place of this cell's state, until it has."""
    return config_file.with_name(f".{config_file.name}.restore")


def digest_of(content: bytes) -> bytes:
    """What differs between two contents."""
    return hashlib.sha256(content).digest()


def read(path: Path, *, required: bool = False) -> bytes | None:
    """The content, up to one byte more than is allowed; None for a file that is not there and need not be.

    Raises HostRefused, to root also where others could have written it: it names the programs that root starts.
    """
    if os.geteuid() == ROOT:
        require_trusted(path.absolute())
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        if missing and not required and not path.is_symlink():  # a link to nowhere was meant to be something
            return None
        hint = "name one that is there" if missing and required else "check the path and the permissions of the file"
        raise HostRefused(f"cannot read {path}: {error.strerror}", hint=hint) from error
