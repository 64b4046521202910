"""The peer at the other end of the socket, and what it may do: root may change, the cell's group may read.

The kernel keeps user and groups from when the peer connects (SO_PEERCRED, SO_PEERGROUPS), so nothing here can be forged or goes
stale with a reused pid.
"""

import contextlib
import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from aiohttp import web

SO_PEERGROUPS = 59  # asm-generic/socket.h; Python 3.11 has no name for it
MOST_BYTES = 1024  # of socket.getsockopt: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of the socket, as the kernel saw it when it connected (pid 0: not visible from here).

    A path that a client names is looked up below `/proc/<pid>/root`.
    """

    pid: int
    uid: int
    gid: int


PEER = web.RequestKey("peer", Peer)
"""Where the server leaves it for the handlers."""


class Permission(IntEnum):
    """What a peer may do; each includes those before it."""

    NONE = 0
    READ = 1
    CHANGE = 2


class Options(Protocol):
    """A socket, or what asyncio shows of one."""

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
        """See socket.getsockopt."""


def group_id(name: str) -> int | None:
    """The number of a group of this host, or None where it was never made."""
    with contextlib.suppress(KeyError):
        return grp.getgrnam(name).gr_gid
    return None


def peer_of(connection: Options) -> Peer:
    """The peer's process, user and group."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Peer(*struct.unpack("3i", credentials))


def permission_of(connection: Options, peer: Peer, *, readers: int | None) -> Permission:
    """`readers` is the number of the group that may read."""
    if peer.uid == 0:
        return Permission.CHANGE
    if readers is None or readers not in {peer.gid, *_groups(connection, peer)}:
        return Permission.NONE
    return Permission.READ


def _groups(connection: Options, peer: Peer) -> tuple[int, ...]:
    """The peer's supplementary groups; those of the user's account if they are too many for one getsockopt."""
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_BYTES)
    except OSError:
        with contextlib.suppress(KeyError):
            account = pwd.getpwuid(peer.uid)
            return tuple(os.getgrouplist(account.pw_name, account.pw_gid))
        return ()
    return struct.unpack(f"{len(found) // 4}I", found)
