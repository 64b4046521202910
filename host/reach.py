"""Which files another user can reach: permission is the kernel's answer, so that access lists and links count too."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

from host import syscalls


def first_out_of_reach(paths: Iterable[Path], *, uid: int, gid: int) -> Path | None:
    """The first folder that this user cannot enter on the way to one of the `paths`; one that does not exist is no obstacle."""
    folders = [folder for path in paths for folder in reversed(path.parents)]
    found: list[Path] = []

    def look() -> None:
        syscalls.act_on_files_as(uid, gid)  # this thread alone, which ends with it
        for folder in folders:
            try:
                os.stat(f"{folder}/.")
            except PermissionError:
                found.append(folder)
                return
            except OSError:
                continue

    thread = threading.Thread(target=look, name="reach")
    thread.start()
    thread.join()
    return found[0] if found else None
