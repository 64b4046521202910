"""Nothing stays of what is below a folder: a cell, a segment, or several of them."""

import shutil
from pathlib import Path

from lab import mounts, processes
from lab.cell import Part, is_part


def remove(root: Path) -> None:
    """Kill everything that runs there and in its containers, undo its mounts, remove the folder. Repeating it is fine."""
    namespaces = mounts.namespaces_below(root)
    supervisors = [each for each in processes.inside(namespaces) if is_part(Part.UP, each.command)]
    processes.end_all(root, namespaces, first=supervisors)
    mounts.umount_below(root)
    if root.exists():
        shutil.rmtree(root)
