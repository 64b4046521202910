"""IPv4 addresses: those of all links, and, by their protocol number, ours on `lo`, where this cell serves its containers."""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from dataplane.netlink.links import LOOPBACK
from dataplane.netlink.rtnetlink import ABSENT, NEW, change
from dataplane.tables import ADDRESS_PROTOCOL, LOOPBACK_LINK
from host.errors import refused_as
from host.netlink.messages import attribute, contents
from host.netlink.socket import NetlinkSocket

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index; attributes follow
IFA_ADDRESS, IFA_LOCAL, IFA_PROTO = 1, 2, 11
RT_SCOPE_LINK = 253
GONE = (*ABSENT, errno.EADDRNOTAVAIL)


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of the link `index`. `remote` is the other end's on a point-to-point link, else the same as `local`."""

    index: int
    scope: int
    local: IPv4Interface
    remote: IPv4Interface
    protocol: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether it is an entry of our table."""
        return self.index == LOOPBACK and self.protocol == ADDRESS_PROTOCOL


def read(kernel: NetlinkSocket) -> Iterator[LinkAddress]:
    """Those of all links, in the kernel's order. Raises HostRefused."""
    for body in kernel.dump(RTM_GETADDR, ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0), what="addresses"):
        _, length, _, scope, index = ADDRESS.unpack_from(body)
        found = contents(body, start=ADDRESS.size)
        local = found[IFA_LOCAL]
        remote, protocol = found.get(IFA_ADDRESS, local), found.get(IFA_PROTO, b"\0")
        yield LinkAddress(index, scope, IPv4Interface((local, length)), IPv4Interface((remote, length)), protocol[0])


def read_own(kernel: NetlinkSocket) -> dict[IPv4Address, str]:
    """Ours, and the link that has them. One with another length or scope than we give is none. Raises HostRefused."""
    return {each.local.ip: LOOPBACK_LINK for each in read(kernel) if each.is_ours and _is_as_given(each)}


def _is_as_given(found: LinkAddress) -> bool:
    return found.scope == RT_SCOPE_LINK and found.local.network.prefixlen == found.local.max_prefixlen


def put(kernel: NetlinkSocket, wanted: Iterable[IPv4Address]) -> None:
    """Give `lo` these, in place of what there is of the same. Raises HostRefused.

    Of scope link: where a link has no address, as a container's, the kernel takes one of `lo` for the host's own calls, but not
    such a one.
    """
    for address in wanted:
        with refused_as(f"cannot give {LOOPBACK_LINK} the address {address}", hint="see `ip address`"):
            _remove(kernel, address)
            mark = attribute(IFA_PROTO, bytes([ADDRESS_PROTOCOL]))
            change(kernel, RTM_NEWADDR, _address(LOOPBACK, IPv4Interface(address), scope=RT_SCOPE_LINK) + mark, flags=NEW)


def drop(kernel: NetlinkSocket, unwanted: Iterable[IPv4Address]) -> None:
    """Take these from `lo`. Raises HostRefused."""
    for address in unwanted:
        with refused_as(f"cannot take the address {address} from {LOOPBACK_LINK}", hint="see `ip address`"):
            _remove(kernel, address)


def _remove(kernel: NetlinkSocket, address: IPv4Address) -> None:
    try:
        delete(kernel, LOOPBACK, IPv4Interface(address))
    except OSError as error:
        if error.errno not in GONE:
            raise


def add(kernel: NetlinkSocket, index: int, address: IPv4Interface) -> None:
    """Give a link an address. Raises FileExistsError where it has it already, and OSError."""
    change(kernel, RTM_NEWADDR, _address(index, address), flags=NEW)


def delete(kernel: NetlinkSocket, index: int, address: IPv4Interface) -> None:
    """Take an address from a link. Raises OSError."""
    change(kernel, RTM_DELADDR, _address(index, address))


def _address(index: int, address: IPv4Interface, *, scope: int = 0) -> bytes:
    both = attribute(IFA_LOCAL, address.packed) + attribute(IFA_ADDRESS, address.packed)
    return ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, scope, index) + both
