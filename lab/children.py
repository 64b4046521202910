"""The lab's door for processes. Its children live in a cell's namespace, outlive the lab or talk to it over pipes.

host/process.py serves the agent: its children end with it, and their output is read at their end. The lab's are all started by
nsenter in the machine's own mount namespace, so that all of them see the pins and the tmpfs that an agent mounts.
"""

import os
import subprocess  # noqa: TID251 -- this file is the door
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, AnyStr

from host.errors import HostRefused

Running = subprocess.Popen[bytes]
CELLNET = (sys.executable, "-P", "-m", "agent")
"""The command `cellnet` of this installation; -P: the folder that we happen to be in must not shadow a module."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command came to."""

    code: int
    out: str
    err: str
    seconds: float


def start(argv: Sequence[str], *, netns: Path | None, root: Path, log: Path) -> Running:
    """Start a process inside that outlives this one; both of its streams are appended to `log`."""
    with log.open("ab") as output:
        return _started(argv, netns=netns, root=root, stdin=subprocess.DEVNULL, stdout=output.fileno(), stderr=output.fileno())


def talk(argv: Sequence[str], *, netns: Path | None, root: Path, log: Path) -> Running:
    """Start a process inside with pipes from here to its standard input and output; its errors are appended to `log`."""
    with log.open("ab") as errors:
        return _started(argv, netns=netns, root=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.fileno())


def run(argv: Sequence[str], *, netns: Path | None, root: Path, timeout: float, stdin: bytes = b"") -> Finished:
    """Run a command inside to its end. Raises HostRefused if that takes longer than `timeout` seconds."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            _entering(argv, netns), input=stdin, capture_output=True, timeout=timeout, check=False, env=environment(root)
        )
    except subprocess.TimeoutExpired as error:
        raise HostRefused(f"{' '.join(argv)} did not end within {timeout:g} s", hint="see the cell's log") from error
    seconds = time.monotonic() - started
    return Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), seconds)


def ended_within(child: Running, seconds: float) -> bool:
    """Wait for a child's end, `seconds` at most."""
    try:
        child.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        return False
    return True


def opened(pipe: IO[AnyStr] | None) -> IO[AnyStr]:
    """A pipe to or from a child that was asked for."""
    assert pipe is not None
    return pipe


def environment(root: Path) -> Mapping[str, str]:
    """Ours without its proxies, which no cell reaches; with `cellnet` found first and talking to the agent below `root`."""
    path = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    kept = {
        name: value for name, value in os.environ.items() if name != "CELLNET_CONFIG" and not name.lower().endswith("_proxy")
    }
    return {**kept, "CELLNET_ROOT": str(root), "PATH": f"{Path(sys.executable).parent}:{path}"}


def _started(argv: Sequence[str], *, netns: Path | None, root: Path, stdin: int, stdout: int, stderr: int) -> Running:
    # a session of its own: the terminal's Ctrl-C is for the lab command, which then stops its children in order
    return subprocess.Popen(
        _entering(argv, netns), stdin=stdin, stdout=stdout, stderr=stderr, env=environment(root),
        start_new_session=True, umask=0o022,
    )  # fmt: skip


def _entering(argv: Sequence[str], netns: Path | None) -> Sequence[str]:
    return argv if netns is None else ["nsenter", f"--net={netns}", "--", *argv]
