"""Puts a backup in place of what is here, all or nothing, whatever moment a crash comes at.

    decide   what is to be is written beside agent.yaml, as one file with a name of its own: until it has that name nothing has
             changed, and from then on all of it will be
    finish   each part is put in place, which may be repeated; agent.yaml last, then the file goes

A crash between the two leaves the file. The agent, `up`, `backup` and `restore` finish what they find there before they read
anything, so that no agent ever runs on half of a backup.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.backup import archive, seal
from agent.backup.capture import named_files
from agent.backup.contents import Backup, BackupFile, BackupPart
from agent.client.location import Location
from agent.config.config import Config
from agent.config.file import pending_file
from agent.config.load import loaded
from agent.errors import HostRefused
from agent.policy.directory.lastgood import GoodVersion, LastGood
from agent.policy.directory.reading import SUFFIX
from ca.copies import replace_all
from ca.errors import CaRefused
from host.durable import SECRET, Write, locked, make_folder, replace, sync_folder
from host.errors import refused_as
from host.trust import require_trusted

HINT = "see df, mount and the permissions"


def config_of(backup: Backup, location: Location) -> Config:
    """What the backup's agent.yaml says on this host. Raises InvalidInput."""
    root = None if location.root is None else location.root.absolute()
    return loaded(backup.one(BackupPart.CONFIG), path=location.config_file, root=root, hostname=os.uname().nodename)


def decide(backup: Backup, config_file: Path) -> None:
    """From now on this is what is here, once it is finished. Raises HostRefused."""
    with refused_as(f"cannot restore into {config_file.parent}", hint=HINT):
        make_folder(config_file.parent, mode=0o755)
        with locked(config_file.parent):
            replace(Write(pending_file(config_file), seal.sealed(archive.packed(backup), passphrase=None), SECRET))


def finish(location: Location) -> bool:
    """Put in place what was decided on; whether there was anything. Raises HostRefused, InvalidInput."""
    file = location.config_file
    if not pending_file(file).exists():
        return False
    with refused_as("cannot end what a restore has begun", hint=f"{HINT}; then run the same command again"):
        require_trusted(pending_file(file), secret=True)
        with locked(file.parent):
            if not pending_file(file).exists():
                return False  # another program has just done it
            _put_in_place(_read(pending_file(file)), location)
            pending_file(file).unlink()
            sync_folder(file.parent)
    return True


def _read(path: Path) -> Backup:
    return archive.unpacked(seal.opened(path.read_bytes(), where=str(path), passphrase=None), where=str(path))


def _put_in_place(backup: Backup, location: Location) -> None:
    config = config_of(backup, location)
    paths = config.paths
    _put_database(paths.database, backup.one(BackupPart.DATABASE) or b"")
    try:
        replace_all(paths.ca, {each.name: each.content for each in backup.of(BackupPart.CA)})
    except CaRefused as error:
        raise HostRefused(error.what, hint=error.hint) from error
    _put_last_good(paths.last_good, backup.of(BackupPart.LAST_GOOD))
    named = named_files(config)
    for each in backup.files:
        if (path := named.get((each.part, each.name))) is not None:
            _put(path, each)
    _put_policies(config.policies, backup.of(BackupPart.POLICIES))
    for each in backup.of(BackupPart.CONFIG):
        _put(location.config_file, each)
    if backup.one(BackupPart.CONFIG) is None:
        location.config_file.unlink(missing_ok=True)


def _put_database(path: Path, content: bytes) -> None:
    make_folder(path.parent, mode=0o700)
    for suffix in ("-wal", "-shm"):  # of the file that goes: what is in it would be played into the new one
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    sync_folder(path.parent)
    replace(Write(path, content, SECRET))


def _put_last_good(directory: Path, files: Iterable[BackupFile]) -> None:
    kept = {each.name: each for each in files}
    good = LastGood(directory)
    for name in _policy_files(directory) - kept.keys():
        good.remove(name)
    for name, each in kept.items():
        good.write(name, GoodVersion(each.content, each.modified * 10**9))


def _put_policies(directory: Path, files: Iterable[BackupFile]) -> None:
    kept = {each.name: each for each in files}
    for name in _policy_files(directory) - kept.keys():
        (directory / name).unlink()
    for name, each in kept.items():
        _put(directory / name, each)


def _policy_files(directory: Path) -> set[str]:
    try:
        return {name for name in os.listdir(directory) if name.endswith(SUFFIX) and not name.startswith(".")}
    except FileNotFoundError:
        return set()


def _put(path: Path, file: BackupFile) -> None:
    make_folder(path.parent, mode=0o755)
    replace(Write(path, file.content, file.mode))
    os.utime(path, (file.modified, file.modified))


def removed_policies(backup: Backup, config: Config) -> Iterator[Path]:
    """Policy files that are here and not in the backup."""
    kept = {each.name for each in backup.of(BackupPart.POLICIES)}
    return (config.policies / name for name in sorted(_policy_files(config.policies) - kept))
