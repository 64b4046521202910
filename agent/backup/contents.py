"""What a backup holds, as one value: files by what they are, never by a path, so that none can lead out of its place."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final

from agent.errors import InvalidInput
from agent.policy.directory.reading import SUFFIX
from ca.copies import MODES

AGENT_YAML, DATABASE = "agent.yaml", "cellnet.db"
ETCD_FILES: Final = ("ca", "cert", "key", "password_file")
METRICS_FILES: Final = ("cert", "key", "client_ca", "token_file")
LONGEST_NAME = 255  # bytes, of a file system


class BackupPart(Enum):
    """What a file is; where that is on this host, its configuration says."""

    CONFIG = "config"
    POLICIES = "policies"
    DATABASE = "database"
    CA = "ca"
    LAST_GOOD = "last-good"
    ETCD = "etcd"
    METRICS = "metrics"


NAMES: Final = {
    BackupPart.CONFIG: (AGENT_YAML,),
    BackupPart.DATABASE: (DATABASE,),
    BackupPart.CA: tuple(MODES),
    BackupPart.ETCD: ETCD_FILES,
    BackupPart.METRICS: METRICS_FILES,
}
"""The only names of those places; the others hold policy files."""


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file. `modified`: seconds since 1970."""

    part: BackupPart
    name: str
    content: bytes = field(repr=False)
    mode: int
    modified: int

    def __post_init__(self) -> None:
        if not is_allowed(self.part, self.name):
            raise InvalidInput(f"a backup has no place for a file {self.part.value}/{self.name}")


def is_allowed(part: BackupPart, name: str) -> bool:
    """Whether a file of that name may be there."""
    if part in NAMES:
        return name in NAMES[part]
    plain = "/" not in name and "\0" not in name and len(name.encode(errors="surrogateescape")) <= LONGEST_NAME
    return plain and name.endswith(SUFFIX) and not name.startswith(".")


@dataclass(frozen=True, slots=True)
class Backup:
    """`cell` is the cell's name, `cell_id` its lasting id; `version` is that of the program that took it, at `taken`."""

    cell: str
    cell_id: str
    version: str
    taken: datetime
    files: tuple[BackupFile, ...]

    def of(self, part: BackupPart) -> tuple[BackupFile, ...]:
        """Those of one part."""
        return tuple(each for each in self.files if each.part is part)

    def one(self, part: BackupPart) -> bytes | None:
        """The content of a part that has one file."""
        return next((each.content for each in self.of(part)), None)
