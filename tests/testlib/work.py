"""How much work something is: the calls of functions in Python that it takes, the same on every machine at all times."""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from types import FrameType


class Calls:
    """So many. What is done inside of C, like the copy of a dictionary, is none; the hash of an address is one."""

    def __init__(self) -> None:
        self.count = 0

    def trace(self, _frame: FrameType, _event: str, _argument: object) -> None:
        """As sys.settrace wants it: asked at each call, it does not look inside."""
        self.count += 1


@contextlib.contextmanager
def counted() -> Iterator[Calls]:
    """Those of the block, and of the tasks that it waits for, in this thread; what others have left is collected before."""
    found, before = Calls(), sys.gettrace()
    gc.collect()
    gc.disable()
    sys.settrace(found.trace)
    try:
        yield found
    finally:
        sys.settrace(before)
        gc.enable()


def work(call: Callable[[], object]) -> int:
    """That of `call`."""
    with counted() as found:
        call()
    return found.count
