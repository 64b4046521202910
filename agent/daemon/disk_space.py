"""Whether the folders that cellnet writes to can take anything: reported before the first write that fails."""

import os
from collections.abc import Iterator
from pathlib import Path

from agent.model.status import Part, Problem

LITTLE = 1 << 20  # bytes; the largest file that is written at once, a policy's last good version
LOST = "what is there is enforced, new attachments and store policies are refused"


class DiskSpace(Part):
    """The file systems below some folders. A folder that is not there yet is skipped."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders

    def problems(self) -> Iterator[Problem]:
        """One for each file system that is full or read-only."""
        seen: set[int] = set()
        for folder in self._folders:
            try:
                device, about = os.stat(folder).st_dev, os.statvfs(folder)
            except OSError:
                continue
            if device not in seen:
                seen.add(device)
                yield from _of(folder, about)


def _of(folder: Path, about: os.statvfs_result) -> Iterator[Problem]:
    if about.f_flag & os.ST_RDONLY:
        yield Problem("disk", f"{folder} is read-only: {LOST}", "mount its file system read-write; see the kernel's log")
    elif about.f_blocks and about.f_bfree * about.f_frsize < LITTLE:
        yield Problem("disk", f"{folder} is full: {LOST}", f"make room: see df {folder}")
    elif about.f_files and not about.f_ffree:
        yield Problem("disk", f"{folder} has no room for another file: {LOST}", f"remove some: see df -i {folder}")
