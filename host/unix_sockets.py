"""The sockets that hold abstract names in the calling thread's network namespace, as the kernel lists them.

/proc knows no processes of another pid namespace, and to connect and ask (SO_PEERCRED) leaves a connection in the holder's
queue; socket diagnosis sees every socket with its owner, and leaves nothing behind.
"""

import struct
from dataclasses import dataclass
from socket import AF_UNIX

from host.netlink.messages import NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, SocketState, contents
from host.netlink.socket import connect

REQUEST = struct.Struct("=BBHIII8s")  # family, protocol, -, states, inode, what to show, cookie
ANSWER = struct.Struct("=BBBxI8s")  # family, type, state, inode, cookie; attributes follow
STATES = 1 << SocketState.CLOSED | 1 << SocketState.LISTEN
"""Not ESTABLISHED: a connection has its listener's name, and until it is accepted no owner, which would read as root."""
SHOW_NAME, SHOW_UID = 0x01, 0x40
NAME, UID = 0, 7


@dataclass(frozen=True, slots=True)
class Holder:
    """A socket that is bound to an abstract name; `uid` is its maker's as our user namespace shows it."""

    name: str
    uid: int
    listens: bool
    inode: int


def holders() -> tuple[Holder, ...]:
    """Every holder of an abstract name, sorted by name. Raises HostRefused."""
    asked = REQUEST.pack(AF_UNIX, 0, 0, STATES, 0, SHOW_NAME | SHOW_UID, bytes(8))
    with connect(NETLINK_SOCK_DIAG) as link:
        found = [_holder(body) for body in link.dump(SOCK_DIAG_BY_FAMILY, asked, what="unix sockets")]
    return tuple(sorted((each for each in found if each is not None), key=lambda each: each.name))


def _holder(body: bytes) -> Holder | None:
    _, _, state, inode, _ = ANSWER.unpack_from(body)
    parts = contents(body, start=ANSWER.size)
    name = parts.get(NAME, b"")
    if not name.startswith(b"\0"):
        return None
    uid = struct.unpack("=I", parts[UID])[0] if UID in parts else 0  # before Linux 5.3: better none too many than two
    return Holder(name[1:].decode(errors="backslashreplace"), uid, state == SocketState.LISTEN, inode)
