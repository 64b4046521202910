"""What is mounted below a cell's folder: pins of namespaces and the tmpfs of its keys. They must go before the folder can."""

import os
from pathlib import Path

from host import syscalls
from host.errors import HostRefused
from host.mounts import below
from host.namespace import NamespaceId

ROUNDS = 16


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
