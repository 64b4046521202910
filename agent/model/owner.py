"""What an attachment belongs to: it lives exactly as long as its owner, and no owner outlives the boot it was seen in.

Pure: what /proc and stat show now comes as arguments, so the sweep at start and the periodic one ask the same question.
"""

from dataclasses import dataclass
from pathlib import Path

from agent.model.engine_container import EngineContainer


@dataclass(frozen=True, slots=True)
class ProcessOwner:
    """A process. `started` is field 22 of /proc/<pid>/stat (clock ticks since boot): with it a reused pid is told apart."""

    pid: int
    started: int
    boot_id: str

    def lives(self, *, boot_id: str, started: int | None) -> bool:
        """Whether it is still there; `started` is what the pid's process shows now, None where there is none."""
        return boot_id == self.boot_id and started == self.started


@dataclass(frozen=True, slots=True)
class NamespaceOwner:
    """A network namespace under the caller's path; `device` and `inode` are the namespace's own (stat of the open path).

    `container` is what its engine knows it as, where an engine has asked.
    """

    path: Path
    device: int
    inode: int
    boot_id: str
    container: EngineContainer | None = None

    def lives(self, *, boot_id: str, found: tuple[int, int] | None) -> bool:
        """Whether the path is still that namespace; `found` is (device, inode) seen there now, None where nothing is."""
        return boot_id == self.boot_id and found == (self.device, self.inode)


Owner = ProcessOwner | NamespaceOwner
