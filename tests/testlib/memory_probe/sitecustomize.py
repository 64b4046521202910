"""Scales inside a process that a test has started with this folder on PYTHONPATH: on SIGUSR1 it writes down what it holds.

From outside a process shows pages, of which an allocator gives none back for a long time; here single objects count.
"""

import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
from types import FrameType


class MallocState(ctypes.Structure):
    """struct mallinfo2 of malloc.h."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def weigh(_signal: int, _frame: FrameType | None) -> None:
    """Python's small objects, and the bytes that all else got from malloc."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = MallocState
    state = libc.mallinfo2()
    weight = {"objects": sys.getallocatedblocks(), "bytes": state.uordblks + state.hblkhd}
    path = os.path.join(os.environ["CELLNET_TEST_MEMORY_PROBE"], str(os.getpid()))
    with open(f"{path}.new", "w") as file:
        json.dump(weight, file)
    os.rename(f"{path}.new", path)


if "CELLNET_TEST_MEMORY_PROBE" in os.environ:
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGUSR1, weigh)
