"""All that a CA's folder holds, as one value: read between two changes, and put in place of what is there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ca import files, succession
from ca.succession import NEXT_ROOT, NEXT_ROOT_KEY
from host.durable import PUBLIC, SECRET

MODES: Final = {
    "root.crt": PUBLIC, "root.key": SECRET, "cell.crt": PUBLIC, "cell.key": SECRET, NEXT_ROOT: PUBLIC, NEXT_ROOT_KEY: SECRET,
}  # fmt: skip


def copied(directory: Path) -> dict[str, bytes]:
    """By name every certificate and key of one moment; none where there is no CA. Raises CaRefused."""
    if not directory.is_dir():
        return {}
    with succession.exclusive(directory):
        succession.finish(directory)
        read = {name: files.read_secret if mode == SECRET else files.read for name, mode in MODES.items()}
        found = {name: reader(directory / name) for name, reader in read.items()}
    return {name: content for name, content in found.items() if content is not None}


def replace_all(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Have the folder hold these and no other certificates and keys. Again is fine, and ends what a crash has left."""
    with succession.exclusive(directory):
        for name in (*(each for each in MODES if each not in contents), succession.NEXT, succession.NEXT_KEY):
            files.remove(directory / name)
        for name, content in contents.items():
            files.replace(directory / name, content, mode=MODES[name])
