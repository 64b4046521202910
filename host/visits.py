"""Visits to namespaces in which root may keep the kernel busy: it can hold the lock of its own nftables for minutes.

A call that takes too long is left alone in its thread. Nothing else is tried in that namespace before it has ended, so that its
root holds up others once, not again and again.
"""

from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from host.namespace import NamespaceThread, enter

Result = TypeVar("Result")

HOME = Path("/proc/self/ns/net")  # of the process: a thread that stayed inside would keep a namespace alive


class Visits:
    """Calls inside namespaces, each for `within` seconds at most. Threads are kept: to make one takes longer than a call."""

    def __init__(self, *, within: float) -> None:
        self._within = within
        self._idle: list[NamespaceThread] = []
        self._unended: dict[Path, Future[Any]] = {}

    def call(self, pin: Path, function: Callable[[], Result]) -> Result:
        """What `function` returns or raises inside. Raises TimeoutError where it, or one before it, does not end in time."""
        before = self._unended.get(pin)
        if before is not None and not before.done():
            raise TimeoutError(f"a call in {pin} from before has not ended")
        try:
            thread = self._idle.pop()
        except IndexError:
            thread = NamespaceThread(HOME, name="visit")
        future = thread.submit(lambda: _visited(pin, function))
        if wait((future,), timeout=self._within).done:
            self._unended.pop(pin, None)
            self._idle.append(thread)
            return future.result()
        self._unended[pin] = future
        thread.leave()
        raise TimeoutError(f"no answer within {self._within:g} s")


def _visited(pin: Path, function: Callable[[], Result]) -> Result:
    enter(pin)
    try:
        return function()
    finally:
        enter(HOME)
