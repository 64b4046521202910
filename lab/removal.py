"""Nothing stays of what is below some folders: cells, their segment, or both below one."""

import shutil
from pathlib import Path

from host.namespace import NamespaceId
from lab import mounts, processes
from lab.cell import Part, is_part


def remove(*roots: Path) -> None:
    """Kill everything that runs there and in its containers, undo all mounts, remove the folders. Repeating it is fine.

    All are killed before the first is removed: cells that see others go one by one would only be kept busy by it.
    """
    namespaces = frozenset[NamespaceId]().union(*map(mounts.namespaces_below, roots))
    supervisors = [each for each in processes.inside(namespaces) if is_part(Part.UP, each.command)]
    processes.end_all(roots, namespaces, first=supervisors)
    for root in roots:
        mounts.umount_below(root)
        if root.exists():
            shutil.rmtree(root)
