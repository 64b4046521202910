"""What decides where a path leads: the symbolic links on its way, and its end."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

LIMIT = 40  # links on one way, as for the kernel


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder. No part of `folder` is a link."""

    folder: str
    name: str

    @property
    def path(self) -> str:
        """The whole."""
        return f"{self.folder.rstrip('/')}/{self.name}"


@dataclass(frozen=True, slots=True)
class Walk:
    """One look at any number of ways, which are often the same in their beginning."""

    _folders: set[str] = field(default_factory=lambda: {"/"})  # those that are seen to be folders and no links

    def way(self, path: str) -> Iterator[Entry]:
        """Each link on the way to `path` (absolute), then its end; that is the first entry which is missing, if one is.

        A watch on these folders for these names notices whatever makes `path` lead to something else, but for real folders
        on the way that are renamed.
        """
        folder, rest = "/", _reversed(path)
        links = 0
        while rest:
            part = rest.pop()
            if part == "..":
                folder = os.path.dirname(folder)
                continue
            entry = Entry(folder, part)
            target = None if entry.path in self._folders else self._target(entry.path)
            if target is None:
                folder = entry.path
                if not rest or folder not in self._folders:
                    yield entry
                    return
                continue
            yield entry
            links += 1
            if links > LIMIT:
                return
            folder = "/" if target.startswith("/") else folder
            rest += _reversed(target)

    def _target(self, path: str) -> str | None:
        """Where a link leads, None for whatever else is there, or nothing."""
        try:
            return os.readlink(path)
        except OSError:
            if os.path.isdir(path):
                self._folders.add(path)
            return None


def _reversed(path: str) -> list[str]:
    """The parts of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
