"""What is known of names, kept over restarts of the agent: a file on tmpfs, a line for each change, written anew now and then.

A line is `NAME ADDRESS END…`, the ends in seconds of the machine's own clock. The last line may be half of one.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from dataplane.sets.known_names import Ends
from host import durable
from host.errors import refused_as

MODE: Final = 0o600
MOST: Final = 4 << 20  # bytes, above which it is written anew with what is known
HINT: Final = "see `df` and `ls -la`"


class KnownNamesFile:
    """One per host; one thread at a time. Until `begin` nothing is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._size = self._base = 0

    def read(self) -> Mapping[str, Ends]:
        """What it says; a line that cannot be read says nothing."""
        found: dict[str, dict[IPv4Address, float]] = {}
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            with suppress(ValueError):  # an empty one, too
                name, *words = line.split()
                for address, end in zip(words[::2], words[1::2], strict=True):
                    found.setdefault(name, {})[IPv4Address(address)] = float(end)
        return found

    def begin(self, known: Iterable[tuple[str, Ends]]) -> None:
        """Write it anew. Raises HostRefused."""
        content = b"".join(_line(name, ends) for name, ends in known)
        self.close()
        with refused_as(f"cannot write {self._path}", hint=HINT):
            durable.make_folder(self._path.parent, mode=0o755)
            durable.replace(durable.Write(self._path, content, MODE), lasting=False)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = self._base = len(content)

    def add(self, name: str, ends: Ends) -> None:
        """One change more. Raises HostRefused."""
        if self._descriptor < 0:
            return
        with refused_as(f"cannot write {self._path}", hint=HINT):
            self._size += os.write(self._descriptor, _line(name, ends))

    @property
    def is_long(self) -> bool:
        """Whether to write it anew."""
        return self._size > 2 * self._base + MOST

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _line(name: str, ends: Ends) -> bytes:
    return f"{name} {' '.join(f'{address} {end:.1f}' for address, end in ends.items())}\n".encode()
