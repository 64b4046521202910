"""Whose cells are whose: each has a claim that names the process it stands for. A cell whose holder is gone is left over.

The holder of `lab up` is first the command itself and then the `cellnet up` that it leaves running; the holder of a demo is the
demo. So whatever is killed, the next lab finds what is left of it.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from agent.errors import Conflict
from dataplane import process
from lab import signals
from lab.cell import Cell
from lab.processes import Process

BASE = Path("/run/cellnet-lab")
FILE = "holder.json"


@contextlib.contextmanager
def only_one(base: Path) -> Iterator[None]:
    """One lab at a time looks at and changes the set of cells below `base`; the folder itself goes with the last of them."""
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
            base.rmdir()  # refused while there are cells in it
        os.close(lock)


def claim(cell: Cell) -> None:
    """Make the cell's folder, held by this process. Raises Conflict if it is there."""
    try:
        cell.root.mkdir()
    except FileExistsError as error:
        holder = _holder(cell)
        pid = holder.pid if holder else "?"
        hint = "cellnet lab down" if cell.root.name.isdigit() else "wait until it has ended"
        raise Conflict(f"the lab's cell {cell.root.name} is up already (process {pid})", hint=hint) from error
    cell.root.chmod(0o755)  # whatever our umask is: Envoy's user must reach its sockets
    hold(cell, Process(os.getpid(), process.own_start_time()))


def hold(cell: Cell, holder: Process) -> None:
    """Say for which process the cell is there."""
    text = json.dumps({"pid": holder.pid, "started": holder.started, "boot_id": process.boot_id()})
    new = cell.root / f".{FILE}"
    new.write_text(text)
    new.rename(cell.root / FILE)


def _holder(cell: Cell) -> Process | None:
    """The process the cell stands for, None if it is gone or was of another boot."""
    try:
        found = json.loads((cell.root / FILE).read_text())
        holder = Process(int(found["pid"]), int(found["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return holder if found["boot_id"] == process.boot_id() and holder.lives else None


def cells(base: Path) -> tuple[Cell, ...]:
    """The cells below `base`, whatever state they are in."""
    found = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    return tuple(Cell(path, number=int(path.name) if path.name.isdigit() else 1) for path in found)


def remove_leftovers(base: Path) -> tuple[Cell, ...]:
    """Remove the cells whose holder is gone; returns them. Call it within `only_one`."""
    found = tuple(cell for cell in cells(base) if _holder(cell) is None)
    for cell in found:
        cell.remove()
    return found


@contextlib.contextmanager
def short_lived(base: Path, *, name: str, number: int = 1) -> Iterator[Cell]:
    """A cell's folder for as long as the block lasts; then everything of it is removed, whatever signal comes meanwhile."""
    with only_one(base):
        remove_leftovers(base)
        cell = Cell(base / name, number=number)
        claim(cell)
    try:
        yield cell
    finally:
        give_up(cell)


def give_up(cell: Cell) -> None:
    """Remove a cell; signals that would stop us have to wait for the end of it."""
    with signals.held(), only_one(cell.root.parent):
        cell.remove()
