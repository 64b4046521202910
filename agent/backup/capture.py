"""Takes a backup of this host's cell, beside a running agent or without one: each part is read whole, as the agent would."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from agent.backup.contents import AGENT_YAML, DATABASE, ETCD_FILES, METRICS_FILES, Backup, BackupFile, BackupPart
from agent.config.config import Config
from agent.config.file import read
from agent.errors import HostRefused, NotFound
from agent.policy.directory.lastgood import LastGood
from agent.policy.directory.reading import Unbelievable, opened
from agent.store.portable import cell_id_of, portable
from ca.copies import copied
from ca.errors import CaRefused
from host.durable import SECRET
from host.errors import refused_as
from host.trust import require_trusted


@dataclass(frozen=True, slots=True)
class Capture:
    """A backup, and what is not in it, in words."""

    backup: Backup
    left_out: tuple[str, ...]


def captured(config: Config, *, now: datetime) -> Capture:
    """Raises NotFound where no agent has ever run, HostRefused for what cannot be read or is damaged."""
    database = config.paths.database
    if not database.exists():
        raise NotFound(
            f"{database} is not there: no agent has run here yet", hint="name the cell's folder by --root or --config"
        )
    require_trusted(database)
    content, left_out = portable(database, now=now.timestamp()), list[str]()
    files = (
        *_config(config),
        *_policies(config.policies, left_out),
        BackupFile(BackupPart.DATABASE, DATABASE, content, SECRET, int(now.timestamp())),
        *_ca(config.paths.ca),
        *_last_good(config.paths.last_good),
        *_named(config),
    )
    identity = cell_id_of(content, where=database)
    return Capture(Backup(config.cell, identity, version("cellnet"), now, files), tuple(left_out))


def _config(config: Config) -> Iterator[BackupFile]:
    file = config.file
    content = None if file is None else read(file.path)
    if file is not None and content is not None:
        yield _described(BackupPart.CONFIG, AGENT_YAML, content, os.stat(file.path))


def _described(part: BackupPart, name: str, content: bytes, seen: os.stat_result) -> BackupFile:
    return BackupFile(part, name, content, seen.st_mode, int(seen.st_mtime))


def _policies(directory: Path, left_out: list[str]) -> Iterator[BackupFile]:
    """Those that may be believed: what others can write must not come back as root's."""
    try:
        with opened(directory) as folder:
            for name in sorted(() if folder is None else folder.names):
                try:
                    content, seen = folder.read(name) if folder else b"", os.stat(directory / name)
                except FileNotFoundError:  # it has gone meanwhile
                    continue
                except Unbelievable as error:
                    left_out.append(f"{directory / name} {error.what}")
                else:
                    yield _described(BackupPart.POLICIES, name, content, seen)
    except Unbelievable as error:
        raise HostRefused(f"{directory} {error.what}", hint=error.hint) from error


def _ca(directory: Path) -> Iterator[BackupFile]:
    try:
        for name, content in copied(directory).items():
            yield _described(BackupPart.CA, name, content, os.stat(directory / name))
    except FileNotFoundError as error:  # a program that renames them at this moment waits for our lock; a person does not
        raise HostRefused(f"{directory} has changed meanwhile", hint="try again") from error
    except CaRefused as error:
        raise HostRefused(error.what, hint=error.hint) from error


def _last_good(directory: Path) -> Iterator[BackupFile]:
    for name, good in sorted(LastGood(directory).load().items()):
        yield BackupFile(BackupPart.LAST_GOOD, name, good.content, SECRET, good.modified // 10**9)


def _named(config: Config) -> Iterator[BackupFile]:
    for (part, name), path in named_files(config).items():
        with refused_as(f"cannot read {path}", hint="see where agent.yaml names it"):
            require_trusted(path)
            yield _described(part, name, path.read_bytes(), os.stat(path))


def named_files(config: Config) -> dict[tuple[BackupPart, str], Path]:
    """Where the configuration says that certificates, keys and secrets are: for its etcd, and for who asks for metrics."""
    found = {(BackupPart.ETCD, name): getattr(config.store, name, None) for name in ETCD_FILES}
    found |= {(BackupPart.METRICS, name): getattr(config.metrics, name) for name in METRICS_FILES}
    return {place: path for place, path in found.items() if isinstance(path, Path)}


def listed(files: Sequence[BackupFile]) -> dict[str, int]:
    """How many there are of each part."""
    return {part.value: sum(each.part is part for each in files) for part in BackupPart}
