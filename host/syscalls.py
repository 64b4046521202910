"""The few system calls that Python 3.11 has no function for. Each raises OSError with the call's errno, like os.* does."""

import ctypes
import os

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 1 << 19
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG = 1, 2
PR_SET_NO_NEW_PRIVS = 38
SYS_OPEN_TREE, SYS_MOVE_MOUNT = 428, 429  # the same on every architecture
OPEN_TREE_CLONE = 1
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 4
AT_FDCWD = -100
SYS_SETGROUPS = 116 if os.uname().machine == "x86_64" else 159  # libc's would change all threads

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into the namespace behind `descriptor`; `kind` is a CLONE_NEW… flag."""
    _checked(_libc.setns(descriptor, kind), "setns")


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _checked(_libc.mount(*arguments), f"mount {target}")


def umount(target: str, *, flags: int = MNT_DETACH | UMOUNT_NOFOLLOW) -> None:
    """umount2(2); lazily by default, since what is mounted may be in use."""
    _checked(_libc.umount2(target.encode(), flags), f"umount {target}")


def act_on_files_as(uid: int, gid: int) -> None:
    """Have the calling thread open files with another user's rights alone, for as long as it lives."""
    _libc.syscall(SYS_SETGROUPS, 0, None)
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)


def die_with_parent(signal: int) -> None:
    """Have the kernel send `signal` to this process when the thread that forked it ends."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def become(uid: int, gid: int) -> None:
    """Give up root for good, in a process of one thread: another user, no capability, and no way to any by a program.

    What its parent's death sends it stays as it is, which the kernel forgets with the user.
    """
    number = ctypes.c_int(0)
    _checked(_libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0), "prctl")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    if number.value:
        die_with_parent(number.value)


def open_tree(folder: int, path: str, *, recursive: bool = False) -> int:
    """A descriptor of a copy of the mount at `path` below the descriptor `folder`, attached nowhere (open_tree(2)).

    `recursive`: with those below it.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    return _checked(_libc.syscall(SYS_OPEN_TREE, folder, path.encode(), flags), f"open_tree {path}")


def move_mount(tree: int, target: str) -> None:
    """Attach what open_tree gave at `target`, in the caller's mount namespace (move_mount(2))."""
    at = (tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)
    _checked(_libc.syscall(SYS_MOVE_MOUNT, *at), f"move_mount {target}")


def getsockopt(descriptor: int, level: int, option: int, asked: bytes) -> bytes:
    """getsockopt(2) of an option that is asked with a value, of the same length as its answer."""
    value, length = ctypes.create_string_buffer(asked, len(asked)), ctypes.c_uint(len(asked))
    _checked(_libc.getsockopt(descriptor, level, option, value, ctypes.byref(length)), "getsockopt")
    return value.raw
