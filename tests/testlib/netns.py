"""Hosts of a test: network namespaces under /run/netns, so that `ip netns exec` helps in debugging one."""

import itertools
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from host import namespace
from tests.testlib.patience import eventually

PREFIX = f"cnt{os.getpid()}"
_numbers = itertools.count()


class Netns:
    """A network namespace with `lo` up, removed by `close`."""

    def __init__(self, word: str = "ns") -> None:
        self.name = f"{PREFIX}-{next(_numbers)}-{word}"
        self.path = Path("/run/netns") / self.name
        # not our own pin: `ip netns` mounts /run/netns over itself when it is first used, and would hide ours
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        self._before_close: list[Callable[[], None]] = []

    def before_close(self, function: Callable[[], None]) -> None:
        """Have what lives in it given back before it is removed."""
        self._before_close.append(function)

    def start(self, *argv: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process, in the machine's own mount namespace (unlike `ip netns exec`); it is inside when this returns."""
        started = subprocess.Popen(["nsenter", f"--net={self.path}", "--", *argv], **options)
        here = self.path.stat().st_ino
        eventually(lambda: started.poll() is not None or _namespace_of(started.pid) == here)
        return started

    def run(self, *argv: str, stdin: bytes | None = None, check: bool = True, timeout: float = 60) -> str:
        """Run a tool inside and return what it printed on both streams."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", "--", *argv],
            input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False,
        )  # fmt: skip
        text = done.stdout.decode(errors="replace")
        assert not check or done.returncode == 0, f"{' '.join(argv)}: {text}"
        return text

    def processes(self) -> Sequence[int]:
        """Pids of the processes inside."""
        return [int(word) for word in self.run("ip", "netns", "pids", self.name, check=False).split() if word.isdigit()]

    def close(self) -> None:
        """Remove the namespace; its links and rules go with it."""
        while self._before_close:
            self._before_close.pop()()
        namespace.unpin(self.path)


def _namespace_of(pid: int) -> int | None:
    """The inode of a process's network namespace; None where it has just ended."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None
