"""The last good version of each policy file, kept on disk, so that a restart does not cut what a broken file allowed.

A copy is the SHA-256 of the content in hex, a newline, the content: a damaged copy is noticed and counts for nothing.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from host.durable import SECRET, Write, make_folder, replace
from host.trust import require_trusted


@dataclass(frozen=True, slots=True)
class GoodVersion:
    """What a file said, and when it was written (nanoseconds since 1970)."""

    content: bytes
    modified: int


class LastGood:
    """Copies by file name in a directory of the agent's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> Mapping[str, GoodVersion]:
        """By name every undamaged copy that root alone can write; none where the directory cannot be read."""
        try:
            require_trusted(self._directory)
            names = os.listdir(self._directory)
        except OSError:
            return {}
        found = {name: self._version(self._directory / name) for name in names if not name.startswith(".")}
        return {name: version for name, version in found.items() if version is not None}

    def write(self, name: str, version: GoodVersion) -> None:
        """Keep it, atomically and past a power failure. Raises OSError; then the copy before is still there."""
        make_folder(self._directory, mode=0o700)
        path, digest = self._directory / name, hashlib.sha256(version.content).hexdigest().encode()
        replace(Write(path, digest + b"\n" + version.content, SECRET))
        os.utime(path, ns=(version.modified, version.modified))

    def remove(self, name: str) -> None:
        """Forget a copy; one that is not there is fine. Raises OSError."""
        (self._directory / name).unlink(missing_ok=True)

    def _version(self, path: Path) -> GoodVersion | None:
        try:
            require_trusted(path)
            digest, _, content = path.read_bytes().partition(b"\n")
            found = GoodVersion(content, path.stat().st_mtime_ns)
        except OSError:
            return None
        return found if hashlib.sha256(content).hexdigest().encode() == digest else None
