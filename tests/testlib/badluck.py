"""What befalls a host: disks that are full or read-only, programs that stand still. Undone when the block ends."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.client.answer import Fields
from agent.errors import Unavailable
from lab.cell import Part
from tests.testlib.cell import CellUnderTest, eventually
from tests.testlib.unsupervised import Unsupervised


class OnSmallDisks(Unsupervised):
    """State, log and run directory each on a file system of their own of a few MiB."""

    @property
    def log(self) -> Path:
        return self.root / "var/log/cell.log"

    def make(self, overrides: tuple[str, ...] = ()) -> None:  # type: ignore[override]
        """As Cell.make, and the disks."""
        super().make(overrides)
        for folder in (self.state, self.log.parent, self.root / "run/cellnet"):
            folder.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0755", "small", folder], check=True)

    @property
    def state(self) -> Path:
        return self.root / "var/lib/cellnet"


@dataclass(frozen=True)
class Filler:
    """Takes all that is left of a folder's file system."""

    path: Path

    def fill(self) -> None:
        with contextlib.suppress(OSError), self.path.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def empty(self) -> None:
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def full(*folders: Path) -> Iterator[Callable[[], None]]:
    """File systems without room; calling what is given takes what has become free since."""
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
    """A file system that takes nothing; nobody may have a file on it open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """A process that does nothing, and is not gone."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def told(cell: CellUnderTest) -> dict[str, str]:
    """The problems of the status: everything said of an area, by area."""
    found: dict[str, str] = {}
    for each in _problems(cell.status()):
        found[each.text("area")] = found.get(each.text("area"), "") + each.text("what") + "; " + each.text("hint") + "\n"
    return found


def _problems(status: Fields) -> Iterator[Fields]:
    yield from status.at("problems").each()


def tells(cell: CellUnderTest, area: str, words: str) -> bool:
    """Whether the status has come to say something."""
    try:
        return words in told(cell).get(area, "")
    except Unavailable:
        return False


def end(cell: CellUnderTest, part: Part = Part.AGENT) -> None:
    """SIGTERM to one part, until it has ended."""
    found = cell.lab.part(part)
    assert found is not None
    found.send(signal.SIGTERM)
    eventually(lambda: not found.lives)
