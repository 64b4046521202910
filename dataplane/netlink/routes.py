"""Host routes to containers and their permanent neighbour entries: no ARP, nothing to learn, nothing to poison."""

import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.errors import HostRefused
from dataplane.netlink.links import index_of
from dataplane.tables import ROUTE_PROTOCOL, NeighbourKey

LINK_SCOPE, ANY_SCOPE, PERMANENT, MAIN = 253, 255, 0x80, 254
ABSENT = (2, 3, 19)


def read_routes(route: IPRoute, names: Mapping[int, str]) -> dict[IPv4Network, str]:
    """Ours (ROUTE_PROTOCOL): destination to link; `names` maps our links' indexes to their names."""
    return {
        IPv4Network((found.get_attr("RTA_DST"), found["dst_len"])): names.get(found.get_attr("RTA_OIF"), "?")
        for found in route.get_routes(family=2, table=MAIN, proto=ROUTE_PROTOCOL)
        if found.get_attr("RTA_DST") is not None
    }


def read_neighbours(route: IPRoute, names: Mapping[int, str]) -> dict[NeighbourKey, str]:
    """Permanent entries on our links."""
    return {
        NeighbourKey(names[found["ifindex"]], IPv4Address(found.get_attr("NDA_DST"))): found.get_attr("NDA_LLADDR")
        for found in route.get_neighbours(family=2)
        if found["ifindex"] in names and found["state"] == PERMANENT
    }


def put_route(route: IPRoute, destination: IPv4Network, *, link: str) -> None:
    """Write one. Raises HostRefused."""
    try:
        route.route("replace", dst=str(destination), oif=index_of(link), scope=LINK_SCOPE, proto=ROUTE_PROTOCOL)
    except NetlinkError as error:
        raise HostRefused(f"cannot route {destination}: {error}", hint="see `ip route` for one in the way") from error


def drop_route(route: IPRoute, destination: IPv4Network) -> None:
    """Remove one; it may have gone with its link."""
    try:
        route.route("del", dst=str(destination), proto=ROUTE_PROTOCOL, scope=ANY_SCOPE)
    except NetlinkError as error:
        if error.code not in ABSENT:
            raise HostRefused(f"cannot remove the route to {destination}: {error}", hint="see `ip route`") from error


def put_neighbour(route: IPRoute, key: NeighbourKey, mac: str) -> None:
    """Write one. Raises HostRefused."""
    try:
        route.neigh("replace", dst=str(key.address), lladdr=mac, ifindex=index_of(key.device), state=PERMANENT)
    except NetlinkError as error:
        raise HostRefused(f"cannot set the neighbour {key.address}: {error}", hint="see `ip neigh`") from error


def drop_neighbour(route: IPRoute, key: NeighbourKey) -> None:
    """Remove one; it may have gone with its link."""
    try:
        index = socket.if_nametoindex(key.device)
    except OSError:
        return
    try:
        route.neigh("del", dst=str(key.address), ifindex=index)
    except NetlinkError as error:
        if error.code not in ABSENT:
            raise HostRefused(f"cannot remove the neighbour {key.address}: {error}", hint="see `ip neigh`") from error
