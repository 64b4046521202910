"""Network namespaces: opening one by its path, pinning it, and running code inside it.

A namespace is identified by device and inode of its nsfs file. setns(2) is per thread, so code runs inside a namespace in
a thread of its own; forking for it would be slow and unsafe beside gRPC.
"""

import fcntl
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from host import syscalls
from host.errors import HostRefused, refused_as
from host.lasting_mounts import in_first_mounts

Result = TypeVar("Result")

NS_GET_NSTYPE = 0xB703
OWN = Path("/proc/thread-self/ns/net")


@dataclass(frozen=True, slots=True)
class NamespaceId:
    """What stays the same whatever path a namespace is reached by."""

    device: int
    inode: int

    @classmethod
    def of(cls, target: int | Path) -> "NamespaceId":
        """The identity of an open descriptor or of a path (followed)."""
        found = os.stat(target)
        return cls(found.st_dev, found.st_ino)


def open_namespace(path: Path, *, root: Path = Path("/")) -> int:
    """Open the network namespace at `path` as seen from `root` (such as /proc/<pid>/root) and return its descriptor.

    Raises HostRefused for a path that is missing, is no network namespace, or is the caller's own.
    """
    seen = Path(f"{root}/{path}")
    hint = "name a network namespace of a container, such as /proc/<pid>/ns/net or /run/netns/<name>"
    with refused_as(f"cannot open {path}", hint=hint):
        # O_NONBLOCK: a FIFO in place of the namespace must not hang the agent
        descriptor = os.open(seen, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if fcntl.ioctl(descriptor, NS_GET_NSTYPE) != syscalls.CLONE_NEWNET:
            raise HostRefused(f"{path} is a namespace, but not of the network", hint=hint)
        if NamespaceId.of(descriptor) == NamespaceId.of(OWN):
            raise HostRefused(f"{path} is the host's own network namespace", hint=hint)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, HostRefused):
            raise
        raise HostRefused(f"{path} is not a namespace", hint=hint) from error
    return descriptor


def pin(descriptor: int, path: Path) -> None:
    """Bind the namespace to `path`, so that it lives on and can be opened there. A pin already there is replaced."""

    def bind() -> None:
        syscalls.mount(f"/proc/thread-self/fd/{descriptor}", str(path), flags=syscalls.MS_BIND)

    unpin(path)
    path.touch(mode=0o444, exist_ok=False)
    in_first_mounts(path.parent, bind)
    if not is_pin(path):
        bind()


def unpin(path: Path) -> None:
    """Undo `pin`; nothing happens where there is none."""

    def release() -> None:
        while is_pin(path):
            syscalls.umount(str(path))

    in_first_mounts(path.parent, release)
    release()
    path.unlink(missing_ok=True)


def inhabited_namespaces() -> dict[NamespaceId, Path]:
    """The network namespaces that processes are in, each with a path that leads there for as long as one process lives."""
    found: dict[NamespaceId, Path] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        path = Path(f"/proc/{pid}/ns/net")
        with suppress(OSError):
            found.setdefault(NamespaceId.of(path), path)
    return found


def is_pin(path: Path) -> bool:
    """Whether a network namespace is mounted at `path`: a plain file there is what an interrupted pin leaves."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return bool(fcntl.ioctl(descriptor, NS_GET_NSTYPE) == syscalls.CLONE_NEWNET)
    except OSError:
        return False
    finally:
        os.close(descriptor)


class NamespaceThread:
    """A thread that lives in one network namespace and runs what it is given, one call at a time.

    `target` is a path, an open descriptor, or None for the namespace of the thread that makes this object.
    """

    def __init__(self, target: Path | int | None = None, *, name: str = "namespace") -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        if target is not None:
            try:
                self.call(lambda: enter(target))
            except BaseException:
                self.close()
                raise

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Queue `function`; its result or exception arrives in the future."""
        future: Future[Result] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._calls.put(call)
        return future

    def call(self, function: Callable[[], Result]) -> Result:
        """Run `function` in the thread and wait for it."""
        return self.submit(function).result()

    def close(self) -> None:
        """End the thread after what is queued; waits for it."""
        self.leave()
        self._thread.join()

    def leave(self) -> None:
        """Have the thread end by itself after what is queued."""
        self._calls.put(None)


def enter(target: Path | int) -> None:
    """Move the calling thread into a network namespace."""
    if isinstance(target, int):
        syscalls.setns(target, syscalls.CLONE_NEWNET)
        return
    descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
    finally:
        os.close(descriptor)


def run_in(target: Path | int | None, function: Callable[[], Result]) -> Result:
    """Run `function` inside a namespace (None: the caller's own), in a thread that ends with it."""
    with closing(NamespaceThread(target, name="run-in")) as thread:
        return thread.call(function)


def create(path: Path) -> None:
    """Make a new network namespace, pinned at `path`."""

    def make() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        descriptor = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pin(descriptor, path)
        finally:
            os.close(descriptor)

    run_in(None, make)
