"""The peer at the other end of the socket, and what it may do: root may change, the cell's group may read.

The kernel keeps user and groups from when the peer connects (SO_PEERCRED, SO_PEERGROUPS), so these cannot be forged. A pid can
become another process's after that, so a pidfd is taken as well, and looked at after each use of the pid.
"""

import contextlib
import errno
import grp
import os
import pwd
import socket
import struct
from enum import IntEnum
from typing import Protocol

from aiohttp import web

from agent.model.peer import Peer, PeerProcess

SO_PEERGROUPS = 59  # asm-generic/socket.h; Python 3.11 has no name for it
SO_PEERPIDFD = 77  # Linux 6.5
MOST_BYTES = 1024  # of socket.getsockopt: 256 groups


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
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return Peer(pid, uid, gid, _process_of(connection, pid, uid=uid) if uid == 0 else None)


def _process_of(connection: Options, pid: int, *, uid: int) -> PeerProcess | None:
    """For when the connection is new: an older kernel is asked by the pid, whose process must be of the peer's user."""
    with contextlib.suppress(OSError):
        try:
            descriptor = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, struct.calcsize("i"))
            return PeerProcess(*struct.unpack("i", descriptor))
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                return None
        found = PeerProcess(os.pidfd_open(pid))
        if os.stat(f"/proc/{pid}").st_uid == uid and found.lives:
            return found
    return None


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
