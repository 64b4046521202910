"""Whether the folders that cellnet writes to can take anything: told before the first write that fails."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.control.service import Problem

LITTLE = 1 << 20  # bytes; the largest file that is written at once, a policy's last good version


def disk_problems(folders: Iterable[Path]) -> Iterator[Problem]:
    """One for each file system below `folders` that is full or read-only. A folder that is not there yet is passed over."""
    seen: set[int] = set()
    for folder in folders:
        try:
            device, about = os.stat(folder).st_dev, os.statvfs(folder)
        except OSError:
            continue
        if device in seen:
            continue
        seen.add(device)
        yield from _of(folder, about)


def _of(folder: Path, about: os.statvfs_result) -> Iterator[Problem]:
    if about.f_flag & os.ST_RDONLY:
        yield Problem("disk", f"{folder} is read-only: {LOST}", "mount its file system read-write; see the kernel's log")
    elif about.f_blocks and about.f_bfree * about.f_frsize < LITTLE:
        yield Problem("disk", f"{folder} is full: {LOST}", f"make room: see df {folder}")
    elif about.f_files and not about.f_ffree:
        yield Problem("disk", f"{folder} has no room for another file: {LOST}", f"remove some: see df -i {folder}")


LOST = "what is there is enforced, new attachments and store policies are refused"
