"""Hearing that somebody changed links, addresses, routes, neighbours, settings or nftables rules of this host.

What an event says is never believed: it only leads to a look at everything. So events are counted, and decoded only as far as
it takes to pass over what the kernel tells by itself; one that is lost (the socket overflowed) counts as one. ipset and legacy
iptables tell nobody: the periodic look finds those.
"""

import errno
import socket
import struct
from collections.abc import Callable

from dataplane.tables import TUNNEL_LINK
from host.netlink.messages import HEADER, NETLINK_NETFILTER, NETLINK_ROUTE, attributes
from host.netlink.socket import subscribe

# link, neighbour, IPv4 address, IPv4 route, IPv4 settings (numbers of rtnetlink's groups)
ROUTE_GROUPS = (1, 3, 5, 7, 24)
NFTABLES_GROUP = 7
NEW_LINK, DELETED_LINK = 16, 17
NEIGHBOUR_MESSAGES = (28, 29)
LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change; attributes follow
UP = 1
ADDRESS, NAME, MTU, MASTER, INFO = 1, 3, 4, 10, 18
PERMANENT = 0x80
CHUNK = 1 << 16

Link = tuple[bool, dict[int, bytes]]
"""Whether it is up, and its attributes."""


class Monitor:
    """The events of the network namespace that the calling thread is in when this is made."""

    def __init__(self) -> None:
        self._sockets = (subscribe(NETLINK_ROUTE, ROUTE_GROUPS), subscribe(NETLINK_NETFILTER, (NFTABLES_GROUP,)))
        self._links: dict[int, Link] = {}  # as last heard of

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Readable when there is something to drain."""
        return tuple(each.fileno() for each in self._sockets)

    def drain(self) -> bool:
        """Take in what was told; whether any of it matters."""
        heard = [_drained(each, matters) for each, matters in zip(self._sockets, (self._route_matters, _any), strict=True)]
        return any(heard)

    def _route_matters(self, received: bytes) -> bool:
        """Neighbours that the kernel itself learns and forgets all the time do not; permanent ones are ours or somebody's hand.
        The tunnel's forwarding entries come as neighbours too.

        Nor does a link of which only the kernel's own view has changed: a carrier comes up to a second after the link.
        """
        _, kind, _, _, _ = HEADER.unpack_from(received)
        if kind in NEIGHBOUR_MESSAGES:
            (state,) = struct.unpack_from("=H", received, HEADER.size + 8)
            return bool(state & PERMANENT)
        if kind in (NEW_LINK, DELETED_LINK):
            index = LINK.unpack_from(received, HEADER.size)[2]
            before = self._links.pop(index, None)
            if kind == NEW_LINK:
                self._links[index] = _link(received)
                return self._links[index] != before
        return True

    def close(self) -> None:
        """Stop listening."""
        for each in self._sockets:
            each.close()


def _drained(source: socket.socket, matters: Callable[[bytes], bool]) -> bool:
    heard = False
    while True:
        try:
            received = source.recv(CHUNK)
        except BlockingIOError:
            return heard
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            heard = True  # more than the socket holds: something did happen
        else:
            heard = matters(received) or heard


def _any(_received: bytes) -> bool:
    return True


def _link(received: bytes) -> Link:
    """What of a link is anybody's business but the kernel's."""
    _, _, _, flags, _ = LINK.unpack_from(received, HEADER.size)
    found = {
        kind: received[start:end]
        for kind, start, end in attributes(received, start=HEADER.size + LINK.size)
        if kind in (ADDRESS, NAME, MTU, MASTER, INFO)
    }
    if found.get(NAME, b"").rstrip(b"\0") != TUNNEL_LINK.encode():
        found.pop(INFO, None)  # there is no end to what other kinds have to tell: bridges count, bonds elect
    return bool(flags & UP), found
