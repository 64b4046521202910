"""A process whose first thread has ended while another lives: /proc calls it a zombie, and it still has its sockets and locks.

So is, for as long as its memory takes to go, every process of several threads that is killed.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.testlib.patience import eventually

Process = subprocess.Popen[bytes]


def _started(*argv: str, **options: Any) -> Process:
    return subprocess.Popen(argv, **options)


@contextmanager
def without_first_thread(start: Callable[..., Process] = _started, *, has: str = "") -> Iterator[Process]:
    """Such a process, which executes `has` before; it ends with the block, or when its standard input is closed."""
    program = f"""
import ctypes, os, socket, sys, threading
{has}
def last():
    print(flush=True)
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=last).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with start(sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        eventually(lambda: ") Z " in Path(f"/proc/{process.pid}/stat").read_text())
        yield process
