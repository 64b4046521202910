"""The last good version of each policy file, kept on disk, so that a restart does not cut what a broken file allowed.

A copy is the SHA-256 of the content in hex, a newline, the content: a damaged copy is noticed and counts for nothing.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path


class LastGood:
    """Copies by file name in a directory of the agent's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> Mapping[str, bytes]:
        """Name -> content of every undamaged copy; none where the directory cannot be read."""
        try:
            names = os.listdir(self._directory)
        except OSError:
            return {}
        found = {name: self._content(name) for name in names if not name.startswith(".")}
        return {name: content for name, content in found.items() if content is not None}

    def write(self, name: str, content: bytes) -> None:
        """Keep `content`, atomically and past a power failure. Raises OSError; then the copy before is still there."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._directory / f".{name[:200]}.new"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as file:
                file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._directory / name)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        """Forget a copy; one that is not there is fine. Raises OSError."""
        (self._directory / name).unlink(missing_ok=True)

    def _content(self, name: str) -> bytes | None:
        try:
            digest, _, content = (self._directory / name).read_bytes().partition(b"\n")
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest().encode() == digest else None
