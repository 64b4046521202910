"""Whether an app serves a port of its container, looked at again and again in the socket table of the container's namespace.

The kernel is asked which socket there would get a call to the overlay address. That is one look-up, whatever sockets there are
in this namespace or another, and it finds those on 0.0.0.0 and [::] and those that are bound to the interface. Nothing is
dialled.
"""

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.flows.sockdiag import ID, NO_COOKIE, REQUEST
from host.errors import HostRefused, refused_as
from host.namespace import enter
from host.netlink.messages import NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY
from host.netlink.socket import NetlinkSocket, connect, prepared, vanished
from host.visits import HOME

TCP, UDP = "tcp", "udp"
PROTOCOLS = {TCP: socket.IPPROTO_TCP, UDP: socket.IPPROTO_UDP}
REOPEN = 16  # looks that find nothing: root inside may have made the interface anew, with another number
LOOPBACK = IPv4Address("127.0.0.1")
IP_FREEBIND = 15  # of Linux


@dataclass(frozen=True, slots=True)
class ServicePort:
    """Where an app may serve: `protocol` is "tcp" or "udp"; `interface`, in the namespace at `pin`, has `address`."""

    pin: Path
    interface: str
    address: IPv4Address
    number: int
    protocol: str


class PortLook:
    """Looks at one port. It keeps one socket, and so the namespace: close it. To be used by one thread at a time."""

    def __init__(self, port: ServicePort) -> None:
        self.port = port
        self._link: NetlinkSocket | None = None
        self._request = b""
        self._misses = 0

    def is_served(self) -> bool:
        """Whether a socket listens there or, for UDP, is bound. Raises HostRefused where the namespace cannot be entered."""
        link = self._link or self._opened()
        answer = link.ask_again(self._request)
        found = _is_there(answer)
        self._misses = 0 if found else self._misses + 1
        if self._misses >= REOPEN:
            self.close()
        return found

    def close(self) -> None:
        """Let go of the namespace. The next look opens it again."""
        self._misses = 0
        if self._link is not None:
            self._link.close()
            self._link = None

    def _opened(self) -> NetlinkSocket:
        with refused_as(f"cannot enter the namespace at {self.port.pin}"):
            enter(self.port.pin)
            try:
                index, self._link = _index(self.port.interface), connect(NETLINK_SOCK_DIAG)
            finally:
                enter(HOME)  # a thread that stayed inside would keep the namespace alive
        self._request = _question(self.port.address, self.port.number, protocol=self.port.protocol, index=index)
        return self._link


def sees_udp() -> bool:
    """Whether the kernel shows sockets of UDP, for which it has a module of its own; tried where the calling thread is.

    Raises HostRefused.
    """
    with (
        refused_as("cannot see whether the kernel shows sockets of UDP"),
        connect(NETLINK_SOCK_DIAG) as link,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound,
    ):
        bound.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)  # where lo is not up yet, it is no address
        bound.bind((str(LOOPBACK), 0))
        return _is_there(link.ask_again(_question(LOOPBACK, bound.getsockname()[1], protocol=UDP, index=0)))


def _question(address: IPv4Address, number: int, *, protocol: str, index: int) -> bytes:
    here, interface = address.packed + bytes(12), struct.pack("=I", index)
    if protocol == UDP:  # there the kernel takes the two ends for those of a datagram that comes in
        identity = ID.pack(0, number, bytes(16), here, interface, NO_COOKIE)
    else:
        identity = ID.pack(number, 0, here, bytes(16), interface, NO_COOKIE)
    return prepared(SOCK_DIAG_BY_FAMILY, REQUEST.pack(socket.AF_INET, PROTOCOLS[protocol], 0, 0) + identity)


def _is_there(answer: bytes | OSError) -> bool:
    if isinstance(answer, OSError):
        if vanished(answer):
            return False
        raise HostRefused(f"cannot look up a socket: {answer.strerror}", hint="cellnet needs root") from answer
    return True


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0  # root inside has renamed it: sockets that are bound to it are not found
