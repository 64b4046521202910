"""Whether root alone decides what a file says: the file is root's, and so is what its path leads over.

What only root can change may be obeyed with root's rights; anything else would hand them to whichever user can write it.
"""

import os
import stat
from pathlib import Path

from host.errors import HostRefused
from host.links import Walk

ROOT = 0
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO


def distrust(seen: os.stat_result) -> str:
    """Why others than root can change what was seen, in words; empty where they cannot."""
    if seen.st_uid != ROOT:
        return f"belongs to uid {seen.st_uid}, not to root"
    keeps = not stat.S_ISLNK(seen.st_mode) and not stat.S_ISCHR(seen.st_mode)  # /dev/null does not keep what is written
    if keeps and seen.st_mode & OTHERS_MAY_WRITE:
        return f"can be written by group or others (mode {stat.S_IMODE(seen.st_mode):04o})"
    return ""


def require_trusted(path: Path, *, secret: bool = False) -> None:
    """Raise HostRefused where others than root can change what is at `path` (absolute), or read it where it is `secret`.

    Looked at are the file, the folder that it is in, and each link on the way to it with its folder. A folder with the sticky
    bit (/tmp) may be writable: what root has in there is safe. What is not there passes, and so does what cannot be looked at.
    """
    for entry in Walk().way(str(path)):
        try:
            folder, here = os.stat(entry.folder), os.lstat(entry.path)
        except OSError:
            return
        if (why := distrust(folder)) and not (folder.st_uid == ROOT and folder.st_mode & stat.S_ISVTX):
            raise _refusal(entry.folder, why)
        if why := distrust(here):
            raise _refusal(entry.path, why)
        if secret and stat.S_ISREG(here.st_mode) and here.st_mode & OTHERS_MAY_READ:
            what = f"{entry.path} can be read by others than root (mode {stat.S_IMODE(here.st_mode):04o})"
            raise HostRefused(what, hint=f"chmod 600 {entry.path}, and change the secret if another user may have read it")


def _refusal(path: str, why: str) -> HostRefused:
    return HostRefused(f"{path} {why}", hint=f"chown root {path} && chmod go-w {path}")
