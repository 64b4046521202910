"""Questions about one entry of a namespace, never dumps.

Root in a container may put a million routes into his tables, and whoever reads them all does nothing else: 100,000 take 20 s.
Each question here takes the time of one entry, whatever there is besides.
"""

import fcntl
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink import nlmsg
from pyroute2.netlink.exceptions import NetlinkError

LOCAL: Final = 2  # type of a route
PERMANENT: Final = 0x80
UP: Final = 1
ANYWHERE: Final = IPv4Address("192.0.2.1")  # kept free for documentation, so that only a default route leads there
_FLAGS, _MTU, _MAC = 0x8913, 0x8921, 0x8927  # ioctls, and what they answer behind the name's 16 octets


@dataclass(frozen=True, slots=True)
class Link:
    """An interface of the calling thread's namespace."""

    name: str
    index: int
    up: bool
    mtu: int
    mac: str


def link(name: str) -> Link | None:
    """None if it is not there."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            flags = struct.unpack_from("H", _ask(asking, _FLAGS, name), 16)[0]
            mtu = struct.unpack_from("i", _ask(asking, _MTU, name), 16)[0]
            mac = _ask(asking, _MAC, name)[18:24].hex(":")
            return Link(name, index=socket.if_nametoindex(name), up=bool(flags & UP), mtu=mtu, mac=mac)
    except OSError:
        return None


def link_of(index: int) -> Link | None:
    """None if no interface has that number."""
    try:
        return link(socket.if_indextoname(index))
    except OSError:
        return None


def _ask(asking: socket.socket, request: int, name: str) -> bytes:
    return fcntl.ioctl(asking.fileno(), request, struct.pack("16s24x", name.encode()))


def is_local(route: IPRoute, address: IPv4Address, *, mark: int = 0) -> bool:
    """Whether packets to an address (with a mark) stay in the namespace."""
    marked = {"mark": mark} if mark else {}
    return any(each["type"] == LOCAL for each in _found(lambda: route.route("get", dst=str(address), **marked)))


def default_route(route: IPRoute) -> tuple[str | None, int | None]:
    """Gateway and index of the link by which everything else leaves."""
    for each in _found(lambda: route.route("get", dst=str(ANYWHERE))):
        return each.get_attr("RTA_GATEWAY"), each.get_attr("RTA_OIF")
    return None, None


def way_out(route: IPRoute) -> tuple[str | None, int | None]:
    """The address that this host's own packets to anywhere else have, and the index of the link by which they leave."""
    for each in _found(lambda: route.route("get", dst=str(ANYWHERE))):
        return each.get_attr("RTA_PREFSRC"), each.get_attr("RTA_OIF")
    return None, None


def permanent_neighbour(route: IPRoute, address: IPv4Address, *, index: int) -> str | None:
    """The MAC of a permanent entry."""
    for each in _found(lambda: route.neigh("get", dst=str(address), ifindex=index)):
        if each["state"] == PERMANENT:
            return str(each.get_attr("NDA_LLADDR"))
    return None


def _found(ask: Callable[[], Iterable[nlmsg]]) -> Iterable[nlmsg]:
    try:
        return tuple(ask())
    except NetlinkError:
        return ()
