"""What the host's own network is like: where the cells meet, and whether the overlay's addresses are in use already."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from dataplane.netlink import addresses, links, routes, vtep
from host.netlink.messages import NETLINK_ROUTE
from host.netlink.socket import NetlinkSocket, connect

DEFAULT_MTU = 1500
VXLAN_OVERHEAD = 50


@dataclass(frozen=True, slots=True)
class Clash:
    """Something of the host, not ours, that lies inside the overlay network, or has an address of ours."""

    network: IPv4Network
    what: str


@dataclass(frozen=True, slots=True)
class Underlay:
    """The interface that leads to the other cells, the host's address there, and the interface's MTU in bytes."""

    interface: str
    address: IPv4Address
    mtu: int


def find_underlay(address: IPv4Address | None, interface: str | None) -> Underlay | None:
    """The host's, as far as it is named; what is None is that of the default route. None where there is no such thing now.

    Raises HostRefused. No dumps of links or routes: there may be thousands, and each look at the kernel asks for this.
    """
    with connect(NETLINK_ROUTE) as kernel:
        source, index = None, None
        if address is None and interface is None:
            way = routes.next_hop(kernel)
            if way is None:
                return None
            source, index = way.source, way.index
        for each in sorted(addresses.read(kernel), key=lambda each: each.local.ip != source):
            if (
                each.scope != routes.RT_SCOPE_UNIVERSE
                or address not in (None, each.local.ip)
                or index not in (None, each.index)
            ):
                continue
            found = links.look_up(kernel, index=each.index)
            if each.index == links.LOOPBACK:
                found = _way_out(kernel, interface)
            if found is not None and interface in (None, found.name):
                return Underlay(found.name, each.local.ip, found.mtu)
    return None


def _way_out(kernel: NetlinkSocket, interface: str | None) -> links.Link | None:
    """The link that carries the traffic of an address of lo: the one that is named, or the default route's."""
    if interface is not None:
        return links.look_up(kernel, name=interface)
    way = routes.next_hop(kernel)
    return None if way is None else links.look_up(kernel, index=way.index)


def clashes(overlay: IPv4Network, own: IPv4Address | None = None) -> tuple[Clash, ...]:
    """The host's routes and addresses inside the overlay that are not ours, a route around it is none, and what has our `own`
    address on `lo` besides us. Raises HostRefused.
    """
    with connect(NETLINK_ROUTE) as kernel:
        found = links.read(kernel)
        ours = set(found.names)
        if found.tunnel is not None and found.tunnel.kind == vtep.KIND:
            ours.add(found.tunnel.index)
        there = (clash for clash in _foreign(kernel, ours) if clash.network.subnet_of(overlay) or _is(clash, own))
        return tuple({clash.what: clash for clash in there}.values())


def _foreign(kernel: NetlinkSocket, ours: set[int]) -> Iterator[Clash]:
    for network, index in routes.read_foreign(kernel):
        if index not in ours:
            yield Clash(network, f"route {network} on {_name(index)}")
    for each in addresses.read(kernel):
        if each.index not in ours and not each.is_ours:
            what = f"address {each.remote} of {_name(each.index)}"
            yield from (Clash(each.remote.network, what), Clash(IPv4Network(each.local.ip), what))


def _is(clash: Clash, own: IPv4Address | None) -> bool:
    return own is not None and clash.network == IPv4Network(own)


def _name(index: int | None) -> str:
    with suppress(OSError):
        if index is not None:
            return socket.if_indextoname(index)
    return "no link"
