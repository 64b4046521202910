"""The last good version of each policy file, kept on disk, so that a restart does not cut what a broken file allowed.

A copy is the SHA-256 of the content in hex, a newline, the content: a damaged copy is noticed and counts for nothing.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from host.durable import SECRET, Write, make_folder, replace
from host.trust import require_trusted


class LastGood:
    """Copies by file name in a directory of the agent's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> Mapping[str, bytes]:
        """Name -> content of every undamaged copy that root alone can write; none where the directory cannot be read."""
        try:
            require_trusted(self._directory)
            names = os.listdir(self._directory)
        except OSError:
            return {}
        found = {name: self._content(name) for name in names if not name.startswith(".")}
        return {name: content for name, content in found.items() if content is not None}

    def write(self, name: str, content: bytes) -> None:
        """Keep `content`, atomically and past a power failure. Raises OSError; then the copy before is still there."""
        make_folder(self._directory, mode=0o700)
        replace(Write(self._directory / name, hashlib.sha256(content).hexdigest().encode() + b"\n" + content, SECRET))

    def remove(self, name: str) -> None:
        """Forget a copy; one that is not there is fine. Raises OSError."""
        (self._directory / name).unlink(missing_ok=True)

    def _content(self, name: str) -> bytes | None:
        try:
            require_trusted(self._directory / name)
            digest, _, content = (self._directory / name).read_bytes().partition(b"\n")
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest().encode() == digest else None
