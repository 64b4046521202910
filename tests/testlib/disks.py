"""Disks that are small, full or read-only. Undone when the block ends."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testlib.unsupervised_cell import UnsupervisedCell


class SmallDisksCell(UnsupervisedCell):
    """State, log and run directory each on a file system of their own of a few MiB."""

    @property
    def log(self) -> Path:
        return self.root / "var/log/cell.log"

    def make(self, overrides: Sequence[str] = ()) -> None:
        """As Cell.make, and the disks."""
        super().make(overrides)
        for folder in (self.state, self.log.parent, self.root / "run/cellnet"):
            folder.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0755", "small", folder], check=True)

    @property
    def state(self) -> Path:
        return self.root / "var/lib/cellnet"


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """A folder with a file system of its own, e.g. `size=1m`."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@dataclass(frozen=True)
class Filler:
    """A file that takes all that is left of its file system."""

    path: Path

    def fill(self) -> None:
        with contextlib.suppress(OSError), self.path.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def empty(self) -> None:
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def full(*folders: Path) -> Iterator[Callable[[], None]]:
    """File systems without room; calling what is given takes the room that has become free since."""
    fillers = [Filler(folder / "filler") for folder in folders]

    def fill() -> None:
        for each in fillers:
            each.fill()

    try:
        fill()
        yield fill
    finally:
        for each in fillers:
            each.empty()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A file system that takes nothing; no process may have a file on it open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)


@contextlib.contextmanager
def outside_memory(folder: Path) -> Iterator[Path]:
    """A folder below `folder` that is on no tmpfs, though the machine's /tmp may be one."""
    parts = {name: folder / name for name in ("lower", "upper", "work", "disk")}
    for each in parts.values():
        each.mkdir()
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", parts["disk"]], check=True)
    try:
        yield parts["disk"]
    finally:
        subprocess.run(["umount", "--lazy", parts["disk"]], check=True)
