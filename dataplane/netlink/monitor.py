"""Events of the kernel: another program changed links, what slows them down, addresses, routes, neighbours, settings or
nftables rules of this host.

What an event says is never believed: it only leads to a look at everything. So events are counted, and decoded only as far as
it takes to pass over what the kernel reports of its own accord; one that is lost (the socket overflowed) counts as one. ipset
and legacy iptables send no events: the periodic look finds those changes.
"""

import errno
import socket
from collections.abc import Callable

from dataplane.netlink.links import (
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    LINK,
    RTM_DELLINK,
    RTM_NEWLINK,
)  # fmt: skip
from dataplane.netlink.neighbours import NEIGHBOUR, NUD_PERMANENT, RTM_DELNEIGH, RTM_NEWNEIGH
from dataplane.tables import TUNNEL_LINK
from host.netlink.messages import HEADER, NETLINK_NETFILTER, NETLINK_ROUTE, attributes
from host.netlink.socket import subscribe

# RTNLGRP_LINK, _NEIGH, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_NETCONF (linux/rtnetlink.h), NFNLGRP_NFTABLES (linux/nfnetlink.h)
ROUTE_GROUPS, NFTABLES_GROUP = (1, 3, 4, 5, 7, 24), 7
CHUNK = 1 << 16

LinkSettings = tuple[bool, dict[int, bytes]]
"""Whether a link is up, and its attributes."""


class Monitor:
    """The events of the network namespace that the calling thread is in when this is made."""

    def __init__(self) -> None:
        self._sockets = (subscribe(NETLINK_ROUTE, ROUTE_GROUPS), subscribe(NETLINK_NETFILTER, (NFTABLES_GROUP,)))
        self._links: dict[int, LinkSettings] = {}  # as last reported, by index

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Readable when there is something to drain."""
        return tuple(each.fileno() for each in self._sockets)

    def drain(self) -> bool:
        """Take in all events; whether any of them matters."""
        found = [_drained(each, matters) for each, matters in zip(self._sockets, (self._route_matters, _any), strict=True)]
        return any(found)

    def _route_matters(self, received: bytes) -> bool:
        """Neighbours that the kernel itself learns and forgets all the time do not; permanent ones are written by cellnet or
        another program. The tunnel's forwarding entries come as neighbours too.

        Nor does a link of which only the kernel's own view has changed: a carrier comes up to a second after the link.
        """
        _, kind, _, _, _ = HEADER.unpack_from(received)
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            return bool(NEIGHBOUR.unpack_from(received, HEADER.size)[2] & NUD_PERMANENT)
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            index = LINK.unpack_from(received, HEADER.size)[2]
            before = self._links.pop(index, None)
            if kind == RTM_NEWLINK:
                self._links[index] = _settings(received)
                return self._links[index] != before
        return True

    def close(self) -> None:
        """Give the sockets back."""
        for each in self._sockets:
            each.close()


def _drained(source: socket.socket, matters: Callable[[bytes], bool]) -> bool:
    found = False
    while True:
        try:
            received = source.recv(CHUNK)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found = True  # more than the socket holds: something did happen
        else:
            found = matters(received) or found


def _any(_received: bytes) -> bool:
    return True


def _settings(received: bytes) -> LinkSettings:
    """What of a link is set by programs, not by the kernel itself."""
    _, _, _, flags, _ = LINK.unpack_from(received, HEADER.size)
    found = {
        kind: received[start:end]
        for kind, start, end in attributes(received, start=HEADER.size + LINK.size)
        if kind in (IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO)
    }
    if found.get(IFLA_IFNAME, b"").rstrip(b"\0") != TUNNEL_LINK.encode():
        found.pop(IFLA_LINKINFO, None)  # other kinds report there what changes all the time: bridges count, bonds elect
    return bool(flags & IFF_UP), found
