"""/sys of a container: a sysfs shows the links of the network namespace that mounts it, so the host's would show the host's."""

import os
from contextlib import suppress
from pathlib import Path

from host import mounts, syscalls

SYS = Path("/sys")


def mount_own_sysfs() -> None:
    """Mount one for our network namespace over the host's, with what is mounted below that (cgroups) at its place again.

    Call it after private_mounts(). Without a sysfs at /sys there is nothing to hide.
    """
    if not (SYS / "class/net").is_dir():
        return
    there = mounts.below(SYS)
    trees: dict[Path, int] = {}
    for each in there:
        if not any(parent in there for parent in each.parents):
            with suppress(OSError):  # the kernel lends no copy of some, nor does a path that is mounted over lead to one
                trees[each] = syscalls.open_tree(syscalls.AT_FDCWD, str(each), recursive=True)
    syscalls.mount("sysfs", str(SYS), kind="sysfs", flags=syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    for path, tree in trees.items():
        with suppress(OSError):  # a folder that only the other sysfs has
            syscalls.move_mount(tree, str(path))
        os.close(tree)
