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
FIRST_MOUNTS = "/proc/1/mountinfo"


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


def outlive(folder: Path) -> bool:
    """Whether what is mounted in `folder` stays when this program ends: it is the same folder among the mounts of process 1.

    Where process 1 cannot be looked at, as in some containers, nothing speaks against it.
    """
    try:
        if _mount_of(folder) in {line.split(maxsplit=1)[0] for line in Path(FIRST_MOUNTS).read_text().splitlines()}:
            return True
    except OSError:
        return True
    same = list[Path]()
    in_first_mounts(folder, lambda: same.append(folder))
    return bool(same)


def _mount_of(folder: Path) -> str:
    """The number of the mount that a folder is on: each mount is of one mount namespace alone."""
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        lines = Path(f"/proc/thread-self/fdinfo/{descriptor}").read_text().splitlines()
    finally:
        os.close(descriptor)
    return next(line.split()[1] for line in lines if line.startswith("mnt_id:"))
