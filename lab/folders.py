"""The folders of labs and demos: each names its holder, the process that it exists for. One whose holder is gone is left over.

The holder of `lab up` is first the command itself and then the `cellnet up` that it leaves running, in each cell, and the etcd
beside them; the holder of a demo is the demo. So the next lab finds the remains of any process that was
killed. The cells of a lab and their segment stand and fall together: none is left over as long as one of them has a holder.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.errors import Conflict
from host import process
from host.namespace import NamespaceId
from lab import mounts, processes, signals
from lab.cell import Part, is_part
from lab.cells import is_part_of_a_lab
from lab.processes import Process

BASE = Path("/run/cellnet-lab")
FILE = "holder.json"


@contextlib.contextmanager
def only_one(base: Path) -> Iterator[None]:
    """One lab at a time looks at and changes the set of folders below `base`, which itself goes with the last of them."""
    while True:
        try:
            base.mkdir(parents=True, exist_ok=True)
            base.chmod(0o755)
            lock = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:  # else it was removed while we waited
            break
        os.close(lock)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            base.rmdir()  # refused while there is something in it
        os.close(lock)


def claim(*folders: Path) -> None:
    """Make folders, held by this process. Raises Conflict if one is there."""
    for folder in folders:
        try:
            folder.mkdir()
        except FileExistsError as error:
            raise _taken(folder) from error
        folder.chmod(0o755)  # not as our umask has it: Envoy's user must reach its sockets
        hold(folder, Process(os.getpid(), process.own_start_time()))


def _taken(folder: Path) -> Conflict:
    holder = _holder(folder)
    pid = holder.pid if holder else "?"
    if is_part_of_a_lab(folder):
        return Conflict(f"the lab's cell {folder.name} is up already (process {pid})", hint="cellnet lab down")
    return Conflict(f"{folder} is there already (process {pid})", hint="wait until it has ended")


def hold(folder: Path, holder: Process) -> None:
    """Name the process that the folder exists for."""
    text = json.dumps({"pid": holder.pid, "started": holder.started, "boot_id": process.boot_id()})
    new = folder / f".{FILE}"
    new.write_text(text)
    new.rename(folder / FILE)


def _holder(folder: Path) -> Process | None:
    """The process the folder stands for, None if it is gone or was of another boot."""
    try:
        found = json.loads((folder / FILE).read_text())
        holder = Process(int(found["pid"]), int(found["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return holder if found["boot_id"] == process.boot_id() and holder.lives else None


def remove_leftovers(base: Path) -> tuple[Path, ...]:
    """Remove the folders whose holder is gone; returns them. Call it within `only_one`."""
    folders = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    lab = [folder for folder in folders if is_part_of_a_lab(folder)]
    groups: list[Sequence[Path]] = [lab, *([folder] for folder in folders if folder not in lab)]
    found = tuple(each for group in groups if not any(map(_holder, group)) for each in group)
    remove(*found)
    return found


@contextlib.contextmanager
def short_lived(base: Path, *, name: str) -> Iterator[Path]:
    """A folder for as long as the block lasts; then all of it is removed, also where a signal asks us to stop meanwhile."""
    with only_one(base):
        remove_leftovers(base)
        folder = base / name
        claim(folder)
    try:
        yield folder
    finally:
        give_up(base, folder)


def give_up(base: Path, *folders: Path) -> None:
    """Remove folders; signals that would stop us have to wait for the end of it."""
    with signals.held(), only_one(base):
        remove(*folders)


def remove(*roots: Path) -> None:
    """Kill everything that runs there and in its containers, undo all mounts, remove the folders. Repeating it is fine.

    All are killed before the first is removed: cells that see others go one by one would only be kept busy by it.
    """
    namespaces = frozenset[NamespaceId]().union(*map(mounts.namespaces_below, roots))
    supervisors = [each for each in processes.in_namespaces(namespaces) if is_part(Part.UP, each.command)]
    processes.end_all(roots, namespaces, first=supervisors)
    for root in roots:
        mounts.umount_below(root)
        if root.exists():
            shutil.rmtree(root)
