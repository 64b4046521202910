"""Host routes to containers and their permanent neighbour entries: no ARP, nothing to learn, nothing to poison."""

import socket
import struct
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.netlink.links import index_of
from dataplane.tables import CELLFUL, ROUTE_PROTOCOL, NeighbourKey, Route
from host.errors import HostRefused
from host.netlink.messages import attributes
from host.netlink.socket import NetlinkSocket

LINK_SCOPE, ANY_SCOPE, PERMANENT, MAIN = 253, 255, 0x80, 254
ABSENT = (2, 3, 19)
GET_ROUTES, GET_NEIGHBOURS = 26, 30
# family, lengths of destination and source, service, table, protocol, scope, type, flags; attributes follow, as below
ROUTE = struct.Struct("=BBBBBBBBI")
NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
INDEX = struct.Struct("=I")
TO, MAC, THROUGH, GATEWAY = 1, 2, 4, 5


def read_routes(kernel: NetlinkSocket, names: Mapping[int, str]) -> dict[IPv4Network, Route]:
    """Ours (ROUTE_PROTOCOL); `names` maps our links' indexes to their names. Raises HostRefused."""
    routes: dict[IPv4Network, Route] = {}
    for body in kernel.dump(GET_ROUTES, ROUTE.pack(socket.AF_INET, *[0] * 8), what="routes"):
        _, length, _, _, table, protocol, _, _, _ = ROUTE.unpack_from(body)
        if table != MAIN or protocol != ROUTE_PROTOCOL:
            continue
        found = {kind: body[start:end] for kind, start, end in attributes(body, start=ROUTE.size)}
        if TO in found:
            link = names.get(INDEX.unpack(found[THROUGH])[0], "?") if THROUGH in found else "?"
            routes[_network(found[TO], length)] = _route(link, found.get(GATEWAY))
    return routes


@lru_cache(maxsize=CELLFUL)
def _network(packed: bytes, length: int) -> IPv4Network:
    """Kept, because each look meets the same, and making one is dear."""
    return IPv4Network((packed, length))


@lru_cache(maxsize=CELLFUL)
def _route(link: str, gateway: bytes | None) -> Route:
    return Route(link, None if gateway is None else IPv4Address(gateway))


@lru_cache(maxsize=CELLFUL)
def _neighbour(link: str, packed: bytes) -> NeighbourKey:
    return NeighbourKey(link, IPv4Address(packed))


def read_neighbours(kernel: NetlinkSocket, names: Mapping[int, str]) -> dict[NeighbourKey, str]:
    """Permanent entries on our links. Raises HostRefused."""
    neighbours: dict[NeighbourKey, str] = {}
    for body in kernel.dump(GET_NEIGHBOURS, NEIGHBOUR.pack(socket.AF_INET, *[0] * 4), what="neighbours"):
        _, index, state, _, _ = NEIGHBOUR.unpack_from(body)
        if index not in names or state != PERMANENT:
            continue
        found = {kind: body[start:end] for kind, start, end in attributes(body, start=NEIGHBOUR.size)}
        neighbours[_neighbour(names[index], found[TO])] = found.get(MAC, b"").hex(":")
    return neighbours


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
