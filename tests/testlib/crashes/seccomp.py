"""Has the kernel ask before each system call of this process that may change something: see effects.py, which answers.

libseccomp writes the filter: it knows each architecture's numbers.
"""

import ctypes
import errno
import os
import socket
from typing import Final

_ALLOW, _NOTIFY, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
_NO_NEW_PRIVILEGES = 3  # an attribute; root needs it not
_EQUAL, _MASKED_EQUAL = 4, 7
_SET_REPLACE, _SET_ADD_COUNTERS = 64, 65  # of both families' iptables
_MADE_OR_WRITTEN: Final = ((os.O_ACCMODE, os.O_WRONLY), (os.O_ACCMODE, os.O_RDWR), (os.O_CREAT, os.O_CREAT))

# name -> for each rule the comparisons (argument, operator, two numbers) that must all hold
TRAPPED: Final = {
    **dict.fromkeys(("sendto", "sendmsg", "sendmmsg"), ((),)),
    "setsockopt": tuple(((2, _EQUAL, option, 0),) for option in (_SET_REPLACE, _SET_ADD_COUNTERS)),
    "openat": tuple(((2, _MASKED_EQUAL, mask, value),) for mask, value in _MADE_OR_WRITTEN),
    **dict.fromkeys(("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"), ((),)),
    **dict.fromkeys(("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate", "pwrite64"), ((),)),
    **dict.fromkeys(("mount", "umount2", "move_mount"), ((),)),
}  # fmt: skip


class _Comparison(ctypes.Structure):
    _fields_ = (("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def library() -> ctypes.CDLL:
    """libseccomp, with the types of what is used of it."""
    found = ctypes.CDLL("libseccomp.so.2")
    found.seccomp_init.restype = ctypes.c_void_p
    return found


def number(name: str) -> int:
    """A system call's number here; negative where this architecture has none of that name."""
    return int(library().seccomp_syscall_resolve_name(name.encode()))


def install() -> int:
    """Install the filter for this thread and all threads and processes that it starts; the descriptor for the answers."""
    seccomp = library()
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ALLOW)))
    _checked(seccomp.seccomp_attr_set(context, _NO_NEW_PRIVILEGES, 0))
    for name, rules in TRAPPED.items():
        if (call := number(name)) < 0:
            continue
        for rule in rules:
            comparisons = (_Comparison * max(len(rule), 1))(*(_Comparison(*each) for each in rule))
            _checked(seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(_NOTIFY), call, len(rule), comparisons))
    _checked(seccomp.seccomp_load(context))
    return _checked(seccomp.seccomp_notify_fd(context))


def refuse_ipv6() -> None:
    """Let this thread, and what it starts, make no socket of IPv6: the kernel says that it has none."""
    seccomp = library()
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ALLOW)))
    comparisons = (_Comparison * 1)(_Comparison(0, _EQUAL, socket.AF_INET6, 0))
    refused = ctypes.c_uint32(_ERRNO | errno.EAFNOSUPPORT)
    _checked(seccomp.seccomp_rule_add_array(context, refused, number("socket"), 1, comparisons))
    _checked(seccomp.seccomp_load(context))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
