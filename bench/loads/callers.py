"""A thread inside a container's namespace that looks as often as it can: the measuring clock is in the same process.

Starting curl takes longer than what is measured.
"""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from agent.errors import Unavailable
from bench.stages.scene import Container
from host.namespace import NamespaceThread, run_in

PORT = 8080
PATIENCE = 10.0  # seconds
PAUSE = 0.0001  # leaves the processor to those that are measured
SELDOM = 0.001  # the same for the thread that looks at several cells before their own do


def come_first() -> None:
    """Have the calling thread, and those that it starts, come before all others: with an agent for every processor and more,
    a thread that waits for its turn would see late what has happened.
    """
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


@contextlib.contextmanager
def first() -> Iterator[None]:
    """The same for a block."""
    come_first()
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def milliseconds(call: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.monotonic()
    call()
    return (time.monotonic() - started) * 1000


class Caller:
    """Dials one container from inside another; answers come from a listener that this object holds there."""

    def __init__(self, source: Container, target: Container) -> None:
        self._address: tuple[str, int] = (str(target.address), PORT)
        self._listener: socket.socket = run_in(target.pin, lambda: socket.create_server(("", PORT), backlog=512))
        self._thread = NamespaceThread(source.pin, name="caller")

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._thread.close()
        self._listener.close()

    def connects(self) -> bool:
        """One try."""
        return self._thread.call(self._try) is True

    def until_connects(self, cause: Callable[[], None]) -> float:
        """Milliseconds from `cause` to the first connection."""
        return self._thread.call(lambda: self._until(True, cause))

    def until_refused(self, cause: Callable[[], None]) -> float:
        """Milliseconds from `cause` to the first refusal."""
        return self._thread.call(lambda: self._until(False, cause))

    def dial(self) -> tuple[socket.socket, socket.socket]:
        """A live connection: the caller's end and the other's."""
        asking = self._thread.call(lambda: socket.create_connection(self._address, timeout=PATIENCE))
        return asking, self._listener.accept()[0]

    def _until(self, wanted: bool, cause: Callable[[], None]) -> float:
        started = time.monotonic()
        cause()
        while self._try() is not wanted:
            if time.monotonic() > started + PATIENCE:
                raise Unavailable(f"no change after {PATIENCE:g} s", hint="see the cell's log")
            time.sleep(PAUSE)
        return (time.monotonic() - started) * 1000

    def _try(self) -> bool | None:
        return tried(self._address, self._listener)


class Callers:
    """Dials several containers from inside another. The cause goes on in a thread of its own: a request blocks.

    `other` dials the last of them only.
    """

    def __init__(self, source: Container, targets: Sequence[Container], *, other: Container) -> None:
        self._targets = [(str(each.address), PORT) for each in targets]
        self._listeners = [run_in(each.pin, lambda: socket.create_server(("", PORT), backlog=512)) for each in targets]
        self._thread, self._other = (NamespaceThread(each.pin, name="caller") for each in (source, other))
        self._thread.call(come_first)
        self._causing = ThreadPoolExecutor(1, initializer=come_first)

    def __enter__(self) -> "Callers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._causing.shutdown()
        self._thread.close()
        self._other.close()
        for each in self._listeners:
            each.close()

    def until(self, wanted: bool, cause: Callable[[], None]) -> tuple[float, ...]:
        """Milliseconds from `cause` until each target can be reached, or refuses; it is asked no more then."""
        return self._thread.call(lambda: self._until(wanted, cause))

    def dial(self) -> tuple[socket.socket, socket.socket]:
        """A live connection from the other to the last: its own end and the target's."""
        asking = self._other.call(lambda: socket.create_connection(self._targets[-1], timeout=PATIENCE))
        return asking, self._listeners[-1].accept()[0]

    def _until(self, wanted: bool, cause: Callable[[], None]) -> tuple[float, ...]:
        started = time.monotonic()
        causing = self._causing.submit(cause)
        found: dict[int, float] = {}
        while len(found) < len(self._targets):
            for number, (address, listener) in enumerate(zip(self._targets, self._listeners, strict=True)):
                if number not in found and tried(address, listener) is wanted:
                    found[number] = (time.monotonic() - started) * 1000
            if time.monotonic() > started + PATIENCE:
                raise Unavailable(f"no change after {PATIENCE:g} s", hint="see the cells' logs")
            time.sleep(SELDOM)
        causing.result()
        return tuple(found[number] for number in range(len(self._targets)))


def tried(address: tuple[str, int], listener: socket.socket) -> bool | None:
    """Connected to the listener, or refused; None: connected and cut at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.settimeout(PATIENCE)
        refused = made.connect_ex(address)
    if refused == 0:
        listener.accept()[0].close()
        return True
    if refused == errno.ECONNRESET:
        return None
    if refused != errno.ECONNREFUSED:
        raise OSError(refused, f"neither connected nor refused: {errno.errorcode.get(refused, refused)}")
    return False
