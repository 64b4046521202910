"""The processes of a cell: found by their namespaces, identified by pid and start time, ended without ever hitting another.

A pid is reused, so a signal goes through a pidfd that was opened before the start time was looked at again.
"""

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from host import process
from host.errors import HostRefused
from host.namespace import OWN, NamespaceId

PROC = Path("/proc")
END_SECONDS = 10.0


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """A process of this boot. `started` is in clock ticks after boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process of that pid, or None if there is none (or only its zombie)."""
        started = process.start_time(pid)
        return None if started is None else cls(pid, started)

    @property
    def lives(self) -> bool:
        """Whether it is still there."""
        return process.start_time(self.pid) == self.started

    @property
    def parent(self) -> int:
        """The pid of its parent, 0 if it is gone."""
        return parent_of(self.pid) if self.lives else 0

    @property
    def command(self) -> tuple[str, ...]:
        """Its arguments; empty if it is gone."""
        try:
            content = (PROC / str(self.pid) / "cmdline").read_bytes()
        except OSError:
            return ()
        return tuple(content.decode(errors="replace").rstrip("\0").split("\0"))

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.lives:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    def freeze(self, *, seconds: float = END_SECONDS) -> None:
        """SIGSTOP, and wait until no thread of it runs any more: on a busy machine the signal is taken a while later."""
        self.send(signal.SIGSTOP)
        until = time.monotonic() + seconds
        while self.lives and not all(state == "T" for state in self._thread_states()):
            if time.monotonic() > until:
                raise HostRefused(f"process {self.pid} does not stand still", hint="see what it waits for")
            time.sleep(0.001)

    def _thread_states(self) -> Iterator[str]:
        for path in (PROC / str(self.pid) / "task").glob("*/stat"):
            with suppress(OSError):  # it has ended
                yield path.read_text().rpartition(")")[2].split()[0]


def all_processes() -> Iterator[Process]:
    """All processes of this machine but zombies."""
    with os.scandir(PROC) as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        found = Process.of(pid)
        if found is not None:
            yield found


def in_namespaces(namespaces: Collection[NamespaceId]) -> tuple[Process, ...]:
    """The processes in one of these network namespaces."""
    return tuple(each for each in all_processes() if _network(each) in namespaces)


def belonging_to(roots: Collection[Path], namespaces: Collection[NamespaceId]) -> tuple[Process, ...]:
    """The processes of the cells below `roots`: all inside these namespaces, and their children in namespaces without a pin.

    Those children are known by CELLNET_ROOT in their environment, by seeing the same folder there as we do (a machine in a
    container may have a lab of its own) and by not being in our own namespace: a shell of the machine with that variable is
    no child of a cell. This process and its ancestors are never counted.
    """
    own, ours = NamespaceId.of(OWN), set(_ancestors())
    found = []
    for each in all_processes():
        network = _network(each)
        child = network not in (None, own) and any(_is_below(root, _root_of(each)) and _sees(each, root) for root in roots)
        if each.pid not in ours and (network in namespaces or child):
            found.append(each)
    return tuple(found)


def _network(found: Process) -> NamespaceId | None:
    try:
        return NamespaceId.of(PROC / str(found.pid) / "ns/net")
    except OSError:
        return None  # gone, or a kernel thread


def _is_below(root: Path, path: Path | None) -> bool:
    return path is not None and path.is_relative_to(root)


def _root_of(found: Process) -> Path | None:
    try:
        content = (PROC / str(found.pid) / "environ").read_bytes()
    except OSError:
        return None
    for line in content.split(b"\0"):
        if line.startswith(b"CELLNET_ROOT="):
            return Path(os.fsdecode(line.partition(b"=")[2]))
    return None


def _sees(found: Process, root: Path) -> bool:
    try:
        return os.path.samestat(os.stat(f"{PROC}/{found.pid}/root{root}"), os.stat(root))
    except OSError:
        return False


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        pid = parent_of(pid)


def parent_of(pid: int) -> int:
    """The pid of a process's parent, 0 if it is gone or has none here."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(text[text.rindex(")") + 2 :].split()[1])


def end_all(
    roots: Collection[Path], namespaces: Collection[NamespaceId], *, first: Collection[Process] = ()
) -> tuple[Process, ...]:
    """Kill `first` (they would start others again), then all processes that belong to `roots`, until none is left.

    Returns those killed. Raises HostRefused if one survives for END_SECONDS.
    """
    until = time.monotonic() + END_SECONDS
    killed: set[Process] = set()
    left: Collection[Process] = [each for each in first if each.lives]
    while True:
        for each in left:
            each.send(signal.SIGKILL)
        killed.update(left)
        if any(each.lives for each in killed):
            if time.monotonic() > until:
                pids = ", ".join(str(each.pid) for each in sorted(killed) if each.lives)
                raise HostRefused(f"processes {pids} survive kill -9", hint="see what they wait for: ps -o pid,stat,wchan,cmd")
            time.sleep(0.01)
        left = belonging_to(roots, namespaces)
        if not left:
            return tuple(sorted(killed))
