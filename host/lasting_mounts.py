"""Mounts that outlive the program that makes them, whatever mount namespace it was started in.

`ip netns exec` and `unshare -m` make a mount namespace for one program, and what is mounted there ends with it. So mounts are
made in the namespace of process 1, from which they come into others by themselves, unless those are private.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from host import syscalls

FIRST, OWN = "/proc/1/ns/mnt", "/proc/thread-self/ns/mnt"


def in_first_mounts(folder: Path, work: Callable[[], None]) -> None:
    """Do `work` among the mounts of process 1 as well, where these are others and `folder` is the same there.

    Whether it is seen here is for the caller to find out. What cannot be done there is left.
    """

    def enter() -> None:
        with suppress(OSError):
            here = folder.stat()
            syscalls.unshare(syscalls.CLONE_FS)  # the kernel moves no thread that shares its root with others
            descriptor = os.open(FIRST, os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(descriptor, syscalls.CLONE_NEWNS)
            finally:
                os.close(descriptor)
            if os.path.samestat(here, folder.stat()):
                work()

    with suppress(OSError):
        if not os.path.samestat(os.stat(FIRST), os.stat(OWN)):
            thread = threading.Thread(target=enter, name="first-mounts")
            thread.start()
            thread.join()
