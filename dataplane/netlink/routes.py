"""IPv4 routes: ours (ROUTE_PROTOCOL) to containers and to other cells, what others have, and where a packet would go.

Written in batches, and read by hand: a thousand cells may join at once, and each look at the kernel reads all routes.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from dataplane.netlink.links import index_of
from dataplane.netlink.rtnetlink import NUMBER, drop_all, put_all
from dataplane.tables import CELLFUL, ROUTE_PROTOCOL, KernelRoute
from host.netlink.messages import attribute, contents
from host.netlink.socket import NetlinkSocket

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
# family, lengths of destination and source, service, table, protocol, scope, type, flags; attributes follow
ROUTE = struct.Struct("=BBBBBBBBI")
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MARK = 1, 4, 5, 7, 16
RT_TABLE_MAIN = 254
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST, RT_SCOPE_NOWHERE = 0, 253, 254, 255
RTN_UNICAST, RTN_LOCAL = 1, 2
RTNH_F_ONLINK = 4

ANYWHERE: Final = IPv4Address("192.0.2.1")  # kept free for documentation, so that only a default route leads there
HINT = "see `ip route` for one in the way"


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where the kernel sends a packet: over link `index` to `gateway` or straight on, from address `source`."""

    index: int
    gateway: IPv4Address | None
    source: IPv4Address | None
    is_local: bool


def read(kernel: NetlinkSocket, names: Mapping[int, str]) -> dict[IPv4Network, KernelRoute]:
    """Ours; `names` maps our links' indexes to their names, any other link is "?". Raises HostRefused."""
    routes: dict[IPv4Network, KernelRoute] = {}
    for length, found in _main_table(kernel, ours=True):
        link = names.get(NUMBER.unpack(found[RTA_OIF])[0], "?") if RTA_OIF in found else "?"
        routes[_network(found[RTA_DST], length)] = _route(link, found.get(RTA_GATEWAY))
    return routes


def read_foreign(kernel: NetlinkSocket) -> Iterator[tuple[IPv4Network, int | None]]:
    """Destination and link index of the others' routes in the main table, but the default. Raises HostRefused."""
    for length, found in _main_table(kernel, ours=False):
        yield IPv4Network((found[RTA_DST], length)), NUMBER.unpack(found[RTA_OIF])[0] if RTA_OIF in found else None


def _main_table(kernel: NetlinkSocket, *, ours: bool) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Length of the destination, and the attributes; a default route has none."""
    for body in kernel.dump(RTM_GETROUTE, ROUTE.pack(socket.AF_INET, *[0] * 8), what="routes"):
        _, length, _, _, table, protocol, _, _, _ = ROUTE.unpack_from(body)
        if table == RT_TABLE_MAIN and (protocol == ROUTE_PROTOCOL) == ours:
            found = contents(body, start=ROUTE.size)
            if RTA_DST in found:
                yield length, found


@lru_cache(maxsize=CELLFUL)
def _network(packed: bytes, length: int) -> IPv4Network:
    """Cached: each look meets the same destinations, and making a network is slow."""
    return IPv4Network((packed, length))


@lru_cache(maxsize=CELLFUL)
def _route(link: str, gateway: bytes | None) -> KernelRoute:
    return KernelRoute(link, None if gateway is None else IPv4Address(gateway))


def put(kernel: NetlinkSocket, entries: Mapping[IPv4Network, KernelRoute]) -> None:
    """Write these. Raises HostRefused."""
    indexes = {name: index_of(name) for name in {route.link for route in entries.values()}}
    bodies = {
        f"the route {to}": message(to, index=indexes[route.link], gateway=route.gateway, protocol=ROUTE_PROTOCOL)
        for to, route in entries.items()
    }
    put_all(kernel, RTM_NEWROUTE, bodies, hint=HINT)


def drop(kernel: NetlinkSocket, destinations: Iterable[IPv4Network]) -> None:
    """Remove ours to these, whatever link they lead over. Raises HostRefused."""
    header = (0, 0, RT_TABLE_MAIN, ROUTE_PROTOCOL, RT_SCOPE_NOWHERE, 0, 0)
    bodies = {
        f"the route {to}": ROUTE.pack(socket.AF_INET, to.prefixlen, *header) + attribute(RTA_DST, to.network_address.packed)
        for to in destinations
    }
    drop_all(kernel, RTM_DELROUTE, bodies, hint=HINT)


def message(
    to: IPv4Network,
    *,
    index: int,
    gateway: IPv4Address | None = None,
    protocol: int,
    table: int = RT_TABLE_MAIN,
    kind: int = RTN_UNICAST,
    scope: int | None = None,
) -> bytes:
    """What RTM_NEWROUTE needs. Without a gateway the destination is on the link; a gateway is on it whatever the routes say."""
    if scope is None:
        scope = RT_SCOPE_LINK if gateway is None else RT_SCOPE_UNIVERSE
    flags = 0 if gateway is None else RTNH_F_ONLINK
    header = ROUTE.pack(socket.AF_INET, to.prefixlen, 0, 0, table, protocol, scope, kind, flags)
    over = attribute(RTA_DST, to.network_address.packed) + attribute(RTA_OIF, NUMBER.pack(index))
    return header + over + (b"" if gateway is None else attribute(RTA_GATEWAY, gateway.packed))


def next_hop(kernel: NetlinkSocket, to: IPv4Address = ANYWHERE, *, mark: int = 0) -> NextHop | None:
    """Where packets to an address (with a mark) go, by default those to the world; None if nowhere.

    Takes the time of one route, however many root in a container has made.
    """
    marked = attribute(RTA_MARK, NUMBER.pack(mark)) if mark else b""
    request = ROUTE.pack(socket.AF_INET, to.max_prefixlen, *[0] * 7) + attribute(RTA_DST, to.packed) + marked
    (answer,) = kernel.ask(RTM_GETROUTE, [request])
    if isinstance(answer, OSError):
        return None
    kind = ROUTE.unpack_from(answer)[7]
    found = contents(answer, start=ROUTE.size)
    gateway, source = (IPv4Address(found[each]) if each in found else None for each in (RTA_GATEWAY, RTA_PREFSRC))
    return NextHop(NUMBER.unpack(found[RTA_OIF])[0] if RTA_OIF in found else 0, gateway, source, kind == RTN_LOCAL)
