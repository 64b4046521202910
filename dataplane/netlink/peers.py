"""The ways to other cells: for each a route, a permanent neighbour entry and an entry of the tunnel's forwarding table.

Read and written in binary and in batches: a thousand cells may join at once, and each look reads all of them. Whoever asks
for a removal does not care that the entry has gone by itself.
"""

import errno
import socket
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from dataplane.netlink import routes
from dataplane.netlink.links import LINK, index_of
from dataplane.netlink.routes import ANY_SCOPE, INDEX, MAIN, NEIGHBOUR, PERMANENT, ROUTE
from dataplane.tables import ROUTE_PROTOCOL, TUNNEL_LINK, NeighbourKey, Route
from host.errors import HostRefused
from host.netlink.messages import NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, attribute, attributes
from host.netlink.socket import NetlinkSocket

NEW_ROUTE, DELETE_ROUTE, NEW_NEIGHBOUR, DELETE_NEIGHBOUR = 24, 25, 28, 29
UNICAST, ONLINK, SELF = 1, 4, 2
PORT, VNI, OTHER_LINK = 6, 7, 8  # of an entry that goes by another port, number or link than its device's
TO, MAC, THROUGH, GATEWAY = routes.TO, routes.MAC, routes.THROUGH, routes.GATEWAY
FORWARD_TO = 1
ODD = IPv4Address(0)  # stands for whatever we would not have written
GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV)

Fdb = Mapping[str, tuple[IPv4Address, ...]]


def read_fdb(kernel: NetlinkSocket, names: Mapping[int, str]) -> dict[str, tuple[IPv4Address, ...]]:
    """All of our device. Raises HostRefused."""
    index = next((number for number, name in names.items() if name == TUNNEL_LINK), None)
    if index is None:
        return {}
    found: dict[str, list[IPv4Address]] = {}
    asked = LINK.pack(socket.AF_BRIDGE, 0, index, 0, 0)
    for body in kernel.dump(routes.GET_NEIGHBOURS, asked, what="forwarding entries"):
        _, where, state, _, _ = NEIGHBOUR.unpack_from(body)
        if where != index:
            continue
        entry = {kind: body[start:end] for kind, start, end in attributes(body, start=NEIGHBOUR.size)}
        target = entry.get(FORWARD_TO, b"")
        plain = state == PERMANENT and len(target) == 4 and not {PORT, VNI, OTHER_LINK} & entry.keys()
        found.setdefault(entry.get(MAC, b"").hex(":"), []).append(IPv4Address(target) if plain else ODD)
    return {mac: tuple(sorted(targets)) for mac, targets in found.items()}


def put_fdb(kernel: NetlinkSocket, entries: Fdb, *, old: Fdb) -> None:
    """Write these; `old` are those that some of them replace. Raises HostRefused."""
    drop_fdb(kernel, [mac for mac, targets in old.items() if ODD in targets])  # not all of them can be replaced
    index = index_of(TUNNEL_LINK) if entries else 0
    bodies = [_fdb(index, mac) + attribute(FORWARD_TO, targets[0].packed) for mac, targets in entries.items()]
    _change(kernel, NEW_NEIGHBOUR, bodies, flags=NLM_F_CREATE | NLM_F_REPLACE, what="set forwarding entries")


def drop_fdb(kernel: NetlinkSocket, macs: Iterable[str]) -> None:
    """Remove these. Raises HostRefused."""
    index = _present()
    bodies = [_fdb(index, mac) for mac in macs] if index else []
    _change(kernel, DELETE_NEIGHBOUR, bodies, what="remove forwarding entries")


def _fdb(index: int, mac: str) -> bytes:
    return NEIGHBOUR.pack(socket.AF_BRIDGE, index, PERMANENT, SELF, 0) + attribute(MAC, _octets(mac))


def put_neighbours(kernel: NetlinkSocket, entries: Mapping[NeighbourKey, str]) -> None:
    """Write these, all on our device. Raises HostRefused."""
    index = index_of(TUNNEL_LINK) if entries else 0
    bodies = [_neighbour(index, key) + attribute(MAC, _octets(mac)) for key, mac in entries.items()]
    _change(kernel, NEW_NEIGHBOUR, bodies, flags=NLM_F_CREATE | NLM_F_REPLACE, what="set neighbours")


def drop_neighbours(kernel: NetlinkSocket, keys: Iterable[NeighbourKey]) -> None:
    """Remove these. Raises HostRefused."""
    index = _present()
    bodies = [_neighbour(index, key) for key in keys] if index else []
    _change(kernel, DELETE_NEIGHBOUR, bodies, what="remove neighbours")


def _neighbour(index: int, key: NeighbourKey) -> bytes:
    return NEIGHBOUR.pack(socket.AF_INET, index, PERMANENT, 0, 0) + attribute(TO, key.address.packed)


def put_routes(kernel: NetlinkSocket, entries: Mapping[IPv4Network, Route]) -> None:
    """Write these, all over our device. Raises HostRefused."""
    index = index_of(TUNNEL_LINK) if entries else 0
    over = attribute(THROUGH, INDEX.pack(index))
    bodies = [
        _route(to, scope=0, kind=UNICAST, flags=ONLINK) + over + attribute(GATEWAY, route.gateway.packed)
        for to, route in entries.items()
        if route.gateway is not None
    ]
    _change(kernel, NEW_ROUTE, bodies, flags=NLM_F_CREATE | NLM_F_REPLACE, what="set routes")


def drop_routes(kernel: NetlinkSocket, destinations: Iterable[IPv4Network]) -> None:
    """Remove these, whatever they lead over. Raises HostRefused."""
    bodies = [_route(to, scope=ANY_SCOPE, kind=0, flags=0) for to in destinations]
    _change(kernel, DELETE_ROUTE, bodies, what="remove routes")


def _route(to: IPv4Network, *, scope: int, kind: int, flags: int) -> bytes:
    header = ROUTE.pack(socket.AF_INET, to.prefixlen, 0, 0, MAIN, ROUTE_PROTOCOL, scope, kind, flags)
    return header + attribute(TO, to.network_address.packed)


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _present() -> int:
    try:
        return socket.if_nametoindex(TUNNEL_LINK)
    except OSError:
        return 0  # gone, and its entries with it


def _change(kernel: NetlinkSocket, kind: int, bodies: Sequence[bytes], *, what: str, flags: int = 0) -> None:
    answers = kernel.ask(kind, bodies, flags=flags | NLM_F_ACK)
    refused = [each for each in answers if isinstance(each, OSError) and not (flags == 0 and each.errno in GONE)]
    if refused:
        raise HostRefused(
            f"cannot {what} of {TUNNEL_LINK}, {len(refused)} of {len(bodies)}: {refused[0].strerror}",
            hint="see `ip route`, `ip neigh` and `bridge fdb`",
        )
