"""What the host's own network is like: the MTU under the overlay, and whether the overlay's addresses are in use already."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

from pyroute2 import IPRoute

from dataplane.netlink.links import address_of
from dataplane.tables import ROUTE_PROTOCOL

DEFAULT_MTU = 1500
VXLAN_OVERHEAD = 50
MAIN, LOCAL_TABLE = 254, 255


@dataclass(frozen=True, slots=True)
class Clash:
    """Something of the host, not ours, that lies inside the overlay network or around it."""

    network: IPv4Network
    what: str


def container_mtu(interface: str | None) -> int:
    """The MTU of `interface` (None: of the default route's link, 1500 where there is none) less what VXLAN adds."""
    with IPRoute() as route:
        links = {link["index"]: link for link in route.get_links()}
        if interface is not None:
            chosen = [link for link in links.values() if link.get_attr("IFLA_IFNAME") == interface]
        else:
            defaults = [found for found in route.get_routes(family=2, table=MAIN) if found["dst_len"] == 0]
            chosen = [links[index] for found in defaults if (index := found.get_attr("RTA_OIF")) in links]
        return min((int(link.get_attr("IFLA_MTU")) for link in chosen), default=DEFAULT_MTU) - VXLAN_OVERHEAD


def clashes(overlay: IPv4Network) -> tuple[Clash, ...]:
    """The host's routes (but the default) and addresses that overlap the overlay and are not ours."""
    with IPRoute() as route:
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in route.get_links()}
        found = [*_routes(route, names), *_addresses(route, names)]
    return tuple(clash for clash in found if clash.network.overlaps(overlay))


def _routes(route: IPRoute, names: dict[int, str]) -> Iterator[Clash]:
    for found in route.get_routes(family=2, table=MAIN):
        name = names.get(found.get_attr("RTA_OIF"), "no link")
        ours = found["proto"] == ROUTE_PROTOCOL or address_of(name) is not None
        if found["dst_len"] and not ours:
            network = IPv4Network((found.get_attr("RTA_DST"), found["dst_len"]))
            yield Clash(network, f"route {network} on {name}")


def _addresses(route: IPRoute, names: dict[int, str]) -> Iterator[Clash]:
    for found in route.get_addr(family=2):
        name = names.get(found["index"], "?")
        if address_of(name) is None:
            address = IPv4Interface((found.get_attr("IFA_ADDRESS"), found["prefixlen"]))
            yield Clash(address.network, f"address {address} of {name}")
