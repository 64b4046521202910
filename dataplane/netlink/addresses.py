"""IPv4 addresses of links."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface

from dataplane.netlink.rtnetlink import NEW, change
from host.netlink.messages import attribute, contents
from host.netlink.socket import NetlinkSocket

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index; attributes follow
IFA_ADDRESS, IFA_LOCAL = 1, 2


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of the link `index`. `remote` is the other end's on a point-to-point link, else the same as `local`."""

    index: int
    scope: int
    local: IPv4Interface
    remote: IPv4Interface


def read(kernel: NetlinkSocket) -> Iterator[LinkAddress]:
    """Those of all links, in the kernel's order. Raises HostRefused."""
    for body in kernel.dump(RTM_GETADDR, ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0), what="addresses"):
        _, length, _, scope, index = ADDRESS.unpack_from(body)
        found = contents(body, start=ADDRESS.size)
        local = found[IFA_LOCAL]
        yield LinkAddress(index, scope, IPv4Interface((local, length)), IPv4Interface((found.get(IFA_ADDRESS, local), length)))


def add(kernel: NetlinkSocket, index: int, address: IPv4Interface) -> None:
    """Give a link an address. Raises FileExistsError where it has it already, and OSError."""
    change(kernel, RTM_NEWADDR, _address(index, address), flags=NEW)


def delete(kernel: NetlinkSocket, index: int, address: IPv4Interface) -> None:
    """Take an address from a link. Raises OSError."""
    change(kernel, RTM_DELADDR, _address(index, address))


def _address(index: int, address: IPv4Interface) -> bytes:
    both = attribute(IFA_LOCAL, address.packed) + attribute(IFA_ADDRESS, address.packed)
    return ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, 0, index) + both
