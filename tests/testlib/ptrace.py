"""One thread of another process held still by ptrace(2), as a deadlock holds it, while the others go on."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000  # __WALL: a thread is waited for like a process
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def frozen_thread(tid: int) -> Iterator[None]:
    """Held until the block ends, or the process does."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:  # all calls about a thread must come from the one that seized it
        if _ptrace(SEIZE, tid) == _ptrace(INTERRUPT, tid) == 0 and os.waitpid(tid, WALL):
            held.set()
            done.wait()
            _ptrace(DETACH, tid)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    try:
        assert held.wait(10), "ptrace is not allowed"
        yield
    finally:
        done.set()
        holder.join()


def _ptrace(request: int, tid: int) -> int:
    return int(_libc.ptrace(request, tid, None, None))
