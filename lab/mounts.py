"""What is mounted below a cell's folder: pins of namespaces and the tmpfs of its keys. They must go before the folder can."""

import os
from pathlib import Path

from host import syscalls
from host.errors import HostRefused
from host.namespace import NamespaceId

ROUNDS = 16


def below(root: Path) -> tuple[Path, ...]:
    """Mount points below `root`, the last mounted first."""
    found = [_unescaped(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return tuple(Path(each) for each in reversed(found) if each.startswith(f"{root}/"))


def _unescaped(text: str) -> str:
    """The kernel writes space, tab, newline and backslash in octal."""
    for character in " \t\n\\":
        text = text.replace(f"\\{ord(character):03o}", character)
    return text


def namespaces_below(root: Path) -> frozenset[NamespaceId]:
    """The network namespaces that are pinned below `root`."""
    return frozenset(NamespaceId.of(path) for path in below(root) if path.is_file())


def umount_below(root: Path) -> None:
    """Undo every mount below `root`. Raises HostRefused if one stays."""
    for _ in range(ROUNDS):
        found = below(root)
        if not found:
            return
        for path in found:
            try:
                syscalls.umount(os.fspath(path))
            except OSError as error:
                raise HostRefused(
                    f"cannot remove the mount {path}: {error.strerror}", hint="see which process holds it: fuser -m"
                ) from error
    raise HostRefused(f"a process keeps mounting below {root}", hint="find it with ps -ef")
