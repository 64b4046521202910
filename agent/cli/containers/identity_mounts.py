"""The agent's files in another mount namespace: certificates and keys that a container's process shall find at their paths.

A caller in `ip netns exec` or on a lab's host may not see the agent's tmpfs. What is missing is bound into the caller's
own mount namespace: a copy of the mount is taken inside the agent's (a bind mount across namespaces is refused by the kernel),
carried over as a descriptor, and attached at the same path here. It stays the agent's live folder: renewals show.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from host import syscalls

FILES = ("CF_INSTANCE_CERT", "CF_INSTANCE_KEY", "CF_INSTANCE_CA", "CF_SYSTEM_CERT_PATH")


def missing_folders(environment: Mapping[str, str], *, agent_pid: int) -> tuple[Path, ...]:
    """The folders around `environment`'s files that are not here as the agent (0: it cannot be seen from here) has them."""
    if not agent_pid:
        return ()
    theirs = Path(f"/proc/{agent_pid}/root")
    paths = [Path(environment[name]) for name in FILES if name in environment]
    missing = {path.parent for path in paths if not _same(path, Path(f"{theirs}{path}"))}
    return tuple(sorted(folder for folder in missing if not missing.intersection(folder.parents)))


def _same(here: Path, there: Path) -> bool:
    try:
        original = os.stat(there)
    except OSError:
        return True  # nothing to borrow
    try:
        return os.path.samestat(os.stat(here), original)
    except OSError:
        return False


def private_mounts() -> None:
    """Give this process a mount namespace of its own, which still gets what the host mounts later."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)


def bind_here(folders: Sequence[Path], *, agent_pid: int) -> None:
    """Attach the agent's `folders` at the same paths here. Call it single-threaded, after private_mounts()."""
    if not folders:
        return
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    own, root, here = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), os.open("/", flags), os.open(".", flags)
    theirs = os.open(f"/proc/{agent_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    their_root = os.open(f"/proc/{agent_pid}/root", flags)
    try:
        syscalls.setns(theirs, syscalls.CLONE_NEWNS)
        try:
            trees = [syscalls.open_tree(their_root, str(folder.relative_to("/"))) for folder in folders]
        finally:
            # entering a mount namespace also changes root and working folder
            syscalls.setns(own, syscalls.CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(here)
        for tree, folder in zip(trees, folders, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            syscalls.move_mount(tree, str(folder))
            os.close(tree)
    finally:
        for descriptor in (own, root, here, theirs, their_root):
            os.close(descriptor)
