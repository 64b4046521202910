"""The one door for processes: everything that cellnet runs or looks up by pid goes through here, with a time limit."""

import os
import select
import subprocess  # noqa: TID251 -- this file is the door
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from host.errors import HostRefused, refused_as

Running = subprocess.Popen[bytes]
WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


def run(argv: Sequence[str], *, timeout: float, stdin: bytes | None = None, with_us: bool = False) -> bytes:
    """Run a tool to its end and return its standard output.

    Raises HostRefused if the tool is missing, fails (with the last line it wrote to standard error) or takes longer than
    `timeout` seconds. The child inherits the network namespace of the calling thread. `with_us`: it is killed when that thread
    ends, which a tool needs that may wait before it writes; that costs 2 ms.
    """
    words = [*WITH_US, *argv] if with_us else argv
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise _not_installed(argv) from error
    except subprocess.TimeoutExpired as error:
        raise _too_late(argv, timeout) from error
    if done.returncode != 0:
        raise _failed(argv, done.returncode, done.stderr)
    return done.stdout


def run_until(argv: Sequence[str], *, line: bytes, timeout: float, stdin: bytes) -> None:
    """Run a tool until its output has this line: then its work is done, and its end is awaited in the background.

    A tool that ends without the line is judged by its exit code. Raises HostRefused as `run`; `timeout` seconds bound the
    work, and the end after it.
    """
    with _in_memory(stdin) as given, _in_memory(b"") as errors:
        try:
            child = subprocess.Popen(argv, stdin=given, stdout=subprocess.PIPE, stderr=errors)
        except FileNotFoundError as error:
            raise _not_installed(argv) from error
        until = time.monotonic() + timeout
        if _writes(child, line, until=until):
            threading.Thread(target=_await_end, args=(child, timeout), name="await-end", daemon=True).start()
        elif not _await_end(child, until - time.monotonic()):
            raise _too_late(argv, timeout)
        elif child.returncode != 0:
            errors.seek(0)
            raise _failed(argv, child.returncode, errors.read())


def _in_memory(content: bytes) -> BinaryIO:
    """A file that a child may read or fill at its own pace: with pipes parent and child could wait for each other for ever."""
    file = open(os.memfd_create("cellnet"), "w+b", buffering=0)  # noqa: SIM115 -- the caller closes it
    file.write(content)
    file.seek(0)
    return file


def _writes(child: Running, line: bytes, *, until: float) -> bool:
    """Whether a child writes a line before its output ends and the clock reaches `until`. Closes the output."""
    assert child.stdout is not None
    with child.stdout as output:
        ready = select.poll()  # select(2) knows no descriptor above 1023, and 500 containers need as many
        ready.register(output, select.POLLIN)
        written = b""
        while line not in written.splitlines():
            left = max(until - time.monotonic(), 0.0)
            part = os.read(output.fileno(), 65536) if ready.poll(left * 1000) else b""
            if not part:
                return False
            written += part
    return True


def _await_end(child: Running, seconds: float) -> bool:
    """Wait for a child's end; one that takes longer is killed, and False returned."""
    ended = ended_within(child, seconds)
    if not ended:
        child.kill()
        child.wait()
    return ended


def _not_installed(argv: Sequence[str]) -> HostRefused:
    return HostRefused(f"{argv[0]} is not installed", hint=f"apt-get install the package of {argv[0]}")


def _too_late(argv: Sequence[str], timeout: float) -> HostRefused:
    return HostRefused(f"{argv[0]} did not end within {timeout:g} s", hint="see what holds it")


def _failed(argv: Sequence[str], code: int, errors: bytes) -> HostRefused:
    lines = errors.decode(errors="replace").strip().splitlines()
    reason = "; ".join(lines[-3:]) or f"exit code {code}"
    return HostRefused(f"{argv[0]}: {reason}", hint=f"it was run as: {' '.join(argv)}")


def start(argv: Sequence[str]) -> Running:
    """Start a long-lived child that is asked to end (SIGTERM) when the thread that started it does.

    Raises HostRefused if setpriv, which sees to that, is missing.
    """
    with refused_as(f"cannot start {argv[0]}", hint="apt-get install util-linux"):
        return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *argv], stdin=subprocess.DEVNULL)


def start_apart(argv: Sequence[str]) -> None:
    """Start a process that outlives this one, as a child of process 1, with its output. Raises HostRefused."""
    with refused_as(f"cannot start {argv[0]}", hint="apt-get install util-linux"):
        subprocess.run(["setsid", "--fork", *argv], stdin=subprocess.DEVNULL, check=True)


def ended_within(child: Running, seconds: float) -> bool:
    """Wait for a child's end, `seconds` at most."""
    try:
        child.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        return False
    return True


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started, or None if there is no such process (or only its zombie).

    Pid and start time together name a process for as long as the machine is up: pids are reused, the pair is not. One whose
    first thread has ended looks like a zombie; while others of its threads live it is there, with its sockets and locks.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    state, threads, started = fields[0], int(fields[17]), int(fields[19])
    return None if state in "ZX" and threads <= 1 else started


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def own_start_time() -> int:
    """start_time of this process."""
    ticks = start_time(os.getpid())
    if ticks is None:
        raise HostRefused("/proc is not mounted", hint="cellnet needs procfs")
    return ticks
