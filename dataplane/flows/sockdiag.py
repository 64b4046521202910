"""The TCP sockets of the calling thread's network namespace: found by their ends, listed, destroyed.

A server that listens on [::] (Go, Python, Java) accepts IPv4 connections on IPv6 sockets with addresses of the form
::ffff:10.255.1.2. All functions here take and give IPv4 addresses for these. Destroying goes by the socket's cookie:
by addresses alone the kernel would take the listener in place of a connection that has just ended.
"""

import errno
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from host.errors import HostRefused
from host.netlink.messages import NETLINK_SOCK_DIAG, NLM_F_ACK, SOCK_DIAG_BY_FAMILY, SocketState, attribute, attributes
from host.netlink.socket import NetlinkSocket, connect, vanished

SOCK_DESTROY = 21
REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states; a socket's id follows
ID = struct.Struct("!HH16s16s4s8s")  # local port, remote port, local, remote, interface, cookie
ANSWER = struct.Struct("=BBBx")  # family, state, timer; a socket's id follows
REST = struct.Struct("=4xI4xII")  # unread bytes, owner and inode; attributes follow
MESSAGE = ANSWER.size + ID.size + REST.size
SHUTDOWN, MARK = 8, 15  # INET_DIAG_SHUTDOWN, _MARK
FILTER = 1  # INET_DIAG_REQ_BYTECODE
BY_LOCAL, BY_REMOTE, BY_MARK = 7, 8, 10  # INET_DIAG_BC_S_COND, _D_COND, _MARK_COND
WHOLE_MARK = 0xFFFFFFFF
BOTH_FAMILIES = (socket.AF_INET, socket.AF_INET6)
PROBE = 4  # the other end has no room, so the kernel asks from time to time whether it has again
NO_COOKIE = b"\xff" * 8
MAPPED = bytes(10) + b"\xff\xff"
# not all states but those that are known not to be: newer kernels have one for sockets that are bound and no more
OPEN = sum(
    1 << each
    for each in (
        SocketState.ESTABLISHED, SocketState.SYN_RECEIVED, SocketState.NEW_SYN_RECEIVED, SocketState.FIN_WAIT_1,
        SocketState.FIN_WAIT_2, SocketState.CLOSE_WAIT, SocketState.CLOSING, SocketState.LAST_ACK,
    )
)  # fmt: skip
AT_ONCE, TRIES, ROUNDS = 64, 128, 4  # listeners of one port that are destroyed in one go, and the requests for each of them


@dataclass(frozen=True, slots=True)
class Ends:
    """A connection as one of its two namespaces sees it."""

    local: IPv4Address
    local_port: int
    remote: IPv4Address
    remote_port: int


@dataclass(frozen=True, slots=True)
class Socket:
    """One TCP socket; `id` is the kernel's own description of it, with the cookie that no other socket has. What `find` has
    found has its `mark` besides.
    """

    family: int
    state: SocketState
    local: IPv4Address | IPv6Address
    local_port: int
    remote: IPv4Address | IPv6Address
    remote_port: int
    id: bytes = field(repr=False)
    inode: int  # 0: no process has it (yet, or any longer)
    owner: int  # of the process that has made it, or has made the listener that it comes from
    unread: int  # bytes that have come and that its process has not read
    timer: int  # what the kernel waits for, see PROBE
    mark: int = 0


def listening(address: IPv4Address, port: int) -> bool:
    """Whether a socket listens on exactly this address: not on 0.0.0.0 or [::]."""
    with connect(NETLINK_SOCK_DIAG) as link:
        asked = _request(socket.AF_INET, _id(Ends(address, port, IPv4Address(0), 0)))
        answer = link.ask(SOCK_DIAG_BY_FAMILY, [asked])[0]
    if isinstance(answer, OSError):
        _vanished_or_refused(answer, "look up a listener")
        return False
    found = _socket(answer)
    return found.state is SocketState.LISTEN and found.local == address


def listeners(address: IPv4Address, port: int) -> int:
    """How many sockets listen on exactly this address, whole ones: a server with threads may have one for each of them.

    One that was destroyed and listens again still is shut down, and so is from birth whatever it accepts.
    """
    here = _address_condition(BY_LOCAL, address, port=port)
    asked = _request(socket.AF_INET, bytes(ID.size), states=1 << SocketState.LISTEN) + _program([here])
    with connect(NETLINK_SOCK_DIAG) as link:
        found = link.dump(SOCK_DIAG_BY_FAMILY, asked, what="listeners")
    return sum(not _is_shut_down(body) for body in found)


def accepted(address: IPv4Address, port: int) -> int:
    """How many connections at this address are open, in one direction at least. Raises HostRefused."""
    here = _address_condition(BY_LOCAL, address, port=port)
    asked = _request(socket.AF_INET, bytes(ID.size), states=OPEN) + _program([here])
    with connect(NETLINK_SOCK_DIAG) as link:
        return sum(1 for _ in link.dump(SOCK_DIAG_BY_FAMILY, asked, what="connections"))


def listeners_at(port: int) -> tuple[Socket, ...]:
    """The sockets that listen on this port, on whichever address, IPv6 ones too. Raises HostRefused."""
    identity = ID.pack(port, 0, bytes(16), bytes(16), bytes(4), NO_COOKIE)
    found: list[Socket] = []
    with connect(NETLINK_SOCK_DIAG) as link:
        for family in (socket.AF_INET, socket.AF_INET6):
            asked = _request(family, identity, states=1 << SocketState.LISTEN)
            found += map(_socket, link.dump(SOCK_DIAG_BY_FAMILY, asked, what="listeners"))
    return tuple(found)


def all_listeners() -> tuple[Socket, ...]:
    """The sockets that listen, on whichever address and port. Raises HostRefused."""
    return _all_in(SocketState.LISTEN, socket.IPPROTO_TCP)


def all_bound() -> tuple[Socket, ...]:
    """The sockets of UDP that are bound and not connected: they get what comes from anywhere. Raises HostRefused."""
    return _all_in(SocketState.CLOSED, socket.IPPROTO_UDP)


def _all_in(state: SocketState, protocol: int) -> tuple[Socket, ...]:
    found: list[Socket] = []
    with connect(NETLINK_SOCK_DIAG) as link:
        for family in BOTH_FAMILIES:
            asked = _request(family, bytes(ID.size), states=1 << state, protocol=protocol)
            found += map(_socket, link.dump(SOCK_DIAG_BY_FAMILY, asked, what="listeners"))
    return tuple(found)


def _is_shut_down(body: bytes) -> bool:
    found = {kind: body[start] for kind, start, end in attributes(body, start=MESSAGE) if start < end}
    return bool(found.get(SHUTDOWN))


def tcp_sockets(
    *,
    local: IPv4Address | None = None,
    remote: IPv4Address | None = None,
    mark: int | None = None,
    families: Sequence[int] = BOTH_FAMILIES,
) -> tuple[Socket, ...]:
    """The TCP sockets with these ends, and with this mark, in every state but LISTEN; the kernel does the filtering.

    For each of the `families` it walks through all sockets of all namespaces. Raises HostRefused.
    """
    conditions = [_address_condition(op, address) for op, address in ((BY_LOCAL, local), (BY_REMOTE, remote)) if address]
    if mark is not None:
        conditions.append(_mark_condition(mark))
    states = 0xFFFFFFFF & ~(1 << SocketState.LISTEN)
    found: list[Socket] = []
    with connect(NETLINK_SOCK_DIAG) as link:
        for family in families:
            asked = _request(family, bytes(ID.size), states=states) + _program(conditions)
            found += map(_socket, link.dump(SOCK_DIAG_BY_FAMILY, asked, what="sockets"))
    return tuple(found)


def find(connections: Sequence[Ends], *, interface: str = "") -> tuple[Socket | None, ...]:
    """The socket of each of these connections, or None if it is not here: a look-up each, no walk through all sockets.

    `interface` lets sockets be found that are bound to it besides those that are bound to none. Raises HostRefused.
    """
    asked = [_request(socket.AF_INET, _id(ends, _index(interface))) for ends in connections]
    with connect(NETLINK_SOCK_DIAG) as link:
        answers = link.ask(SOCK_DIAG_BY_FAMILY, asked)
    return tuple(_connected(answer, ends) for ends, answer in zip(connections, answers, strict=True))


def _connected(answer: bytes | OSError, ends: Ends) -> Socket | None:
    if isinstance(answer, OSError):
        _vanished_or_refused(answer, "look up a connection")
        return None
    found = _socket(answer)
    # without the connection the kernel names the listener that would take it
    return replace(found, mark=_mark(answer)) if (found.remote, found.remote_port) == (ends.remote, ends.remote_port) else None


def _mark(body: bytes) -> int:
    """The kernel gives it to whoever may set it."""
    return next((int.from_bytes(body[begin:end], sys.byteorder) for kind, begin, end in attributes(body, start=MESSAGE)
                 if kind == MARK), 0)  # fmt: skip


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface) if interface else 0
    except OSError:
        return 0  # the container's root may rename it


def opened() -> NetlinkSocket:
    """A conversation about the calling thread's namespace, which another thread may go on with."""
    return connect(NETLINK_SOCK_DIAG)


def destroy(sockets: Sequence[Socket], *, over: NetlinkSocket | None = None) -> int:
    """Reset these connections: both ends see it. Returns how many were still there; raises HostRefused.

    They are the calling thread's namespace's, or that of the conversation `over`.
    """
    with nullcontext(over) if over else opened() as link:
        answers = link.ask(SOCK_DESTROY, [_request(each.family, each.id) for each in sockets], flags=NLM_F_ACK)
    for answer in answers:
        if isinstance(answer, OSError):
            _vanished_or_refused(answer, "destroy a socket")
    return answers.count(b"")


def destroy_listeners(port: int, sockets: Sequence[Socket]) -> bool:
    """Destroy these listeners of `port`; whether any was still there. Raises HostRefused.

    Of several that share a port the kernel looks at one only, chosen by the caller's address and port, and then compares the
    cookie. So each is asked for under many callers' ports, and a crowd of them is not destroyed at one go.
    """
    was_there, left = False, tuple(sockets[:AT_ONCE])
    for turn in range(ROUNDS):
        callers = range(1 + turn * TRIES, 1 + (turn + 1) * TRIES)
        asked = [replace(each, id=each.id[:2] + struct.pack("!H", caller) + each.id[4:]) for each in left for caller in callers]
        was_there |= destroy(asked) > 0
        present = {each.id for each in listeners_at(port)}
        left = tuple(each for each in left if each.id in present)
        if not left:
            return was_there
    return True


def _vanished_or_refused(answer: OSError, what: str) -> None:
    if not vanished(answer):
        hint = "the kernel lacks INET_DIAG_DESTROY" if answer.errno == errno.EOPNOTSUPP else "cellnet needs root"
        raise HostRefused(f"cannot {what}: {answer.strerror}", hint=hint) from answer


def _request(family: int, identity: bytes, *, states: int = 0, protocol: int = socket.IPPROTO_TCP) -> bytes:
    return REQUEST.pack(family, protocol, 0, states) + identity


def _id(ends: Ends, index: int = 0) -> bytes:
    interface = struct.pack("=I", index)
    return ID.pack(ends.local_port, ends.remote_port, ends.local.packed, ends.remote.packed, interface, NO_COOKIE)


def _socket(body: bytes) -> Socket:
    family, state, timer = ANSWER.unpack_from(body)
    identity = body[ANSWER.size : ANSWER.size + ID.size]
    local_port, remote_port, local, remote, _, _ = ID.unpack(identity)
    unread, owner, inode = REST.unpack_from(body, ANSWER.size + ID.size)
    return Socket(
        family, SocketState(state), _address(family, local), local_port, _address(family, remote), remote_port, identity, inode,
        owner, unread, timer,
    )  # fmt: skip


def _address(family: int, packed: bytes) -> IPv4Address | IPv6Address:
    if family == socket.AF_INET:
        return IPv4Address(packed[:4])
    return IPv4Address(packed[12:]) if packed.startswith(MAPPED) else IPv6Address(packed)


def _program(conditions: Sequence[bytes]) -> bytes:
    """The filter that the kernel runs on each socket: each condition, if it fails, jumps just behind the end, to `no`."""
    program, rest = b"", sum(map(len, conditions))
    for condition in conditions:
        program += condition[:2] + struct.pack("=H", rest + 4) + condition[4:]
        rest -= len(condition)
    return attribute(FILTER, program) if program else b""


def _address_condition(operation: int, address: IPv4Address, *, port: int = -1) -> bytes:
    # family, prefix length, port (-1: any); matches IPv4-mapped sockets too
    return struct.pack("=BBHBBxxi4s", operation, 16, 0, socket.AF_INET, 32, port, address.packed)


def _mark_condition(mark: int) -> bytes:
    return struct.pack("=BBHII", BY_MARK, 12, 0, mark, WHOLE_MARK)
