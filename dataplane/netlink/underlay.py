"""What the host's own network is like: where the cells meet, and whether the overlay's addresses are in use already."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from dataplane.netlink import lookup
from dataplane.netlink.links import address_of
from dataplane.tables import ROUTE_PROTOCOL, TUNNEL_LINK

DEFAULT_MTU = 1500
VXLAN_OVERHEAD = 50
MAIN, GLOBAL = 254, 0


@dataclass(frozen=True, slots=True)
class Clash:
    """Something of the host, not ours, that lies inside the overlay network or around it."""

    network: IPv4Network
    what: str


@dataclass(frozen=True, slots=True)
class Underlay:
    """The interface that leads to the other cells, the host's address there, and the interface's MTU in bytes."""

    interface: str
    address: IPv4Address
    mtu: int


def underlay(address: IPv4Address | None, interface: str | None) -> Underlay | None:
    """The host's, as far as it is named; what is None is that of the default route. None where there is no such thing now.

    No dumps of links or routes: of those there may be thousands, and this is asked at every look.
    """
    with IPRoute() as route:
        source, index = None, None
        if address is None and interface is None:
            source, index = lookup.way_out(route)
        for each in sorted(route.get_addr(family=2), key=lambda each: each.get_attr("IFA_LOCAL") != source):
            held, found = IPv4Address(each.get_attr("IFA_LOCAL")), lookup.link_of(each["index"])
            named = address in (None, held) and interface in (None, found and found.name) and index in (None, each["index"])
            if named and found is not None and each["scope"] == GLOBAL and (address or interface or index):
                return Underlay(found.name, held, found.mtu)
    return None


def clashes(overlay: IPv4Network) -> tuple[Clash, ...]:
    """The host's routes (but the default) and addresses that overlap the overlay and are not ours."""
    with IPRoute() as route:
        links = list(route.get_links())
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in links}
        ours = {link["index"] for link in links if _is_ours(link)}
        found = [*_routes(route, names, ours), *_addresses(route, names, ours)]
    return tuple(clash for clash in found if clash.network.overlaps(overlay))


def _is_ours(link: ifinfmsg) -> bool:
    name = str(link.get_attr("IFLA_IFNAME"))
    if name != TUNNEL_LINK:
        return address_of(name) is not None
    return bool(link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "vxlan")


def _routes(route: IPRoute, names: dict[int, str], ours: set[int]) -> Iterator[Clash]:
    for found in route.get_routes(family=2, table=MAIN):
        name = names.get(found.get_attr("RTA_OIF"), "no link")
        if found["dst_len"] and found["proto"] != ROUTE_PROTOCOL and found.get_attr("RTA_OIF") not in ours:
            network = IPv4Network((found.get_attr("RTA_DST"), found["dst_len"]))
            yield Clash(network, f"route {network} on {name}")


def _addresses(route: IPRoute, names: dict[int, str], ours: set[int]) -> Iterator[Clash]:
    for found in route.get_addr(family=2):
        name = names.get(found["index"], "?")
        if found["index"] not in ours:
            address = IPv4Interface((found.get_attr("IFA_ADDRESS"), found["prefixlen"]))
            yield Clash(address.network, f"address {address} of {name}")
