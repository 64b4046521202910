"""Permanent neighbour entries of our links: no ARP, nothing to learn, nothing to poison."""

import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address

from dataplane.netlink.links import index_of
from dataplane.netlink.rtnetlink import drop_all, octets, put_all
from dataplane.tables import CELLFUL, NeighbourKey
from host.netlink.messages import attribute, contents
from host.netlink.socket import NetlinkSocket

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type; attributes follow
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT = 0x80
HINT = "see `ip neigh`"


def read(kernel: NetlinkSocket, names: Mapping[int, str]) -> dict[NeighbourKey, str]:
    """Permanent entries and their MACs; `names` maps our links' indexes to their names. Raises HostRefused."""
    neighbours: dict[NeighbourKey, str] = {}
    for body in kernel.dump(RTM_GETNEIGH, NEIGHBOUR.pack(socket.AF_INET, *[0] * 4), what="neighbours"):
        _, index, state, _, _ = NEIGHBOUR.unpack_from(body)
        if index in names and state == NUD_PERMANENT:
            found = contents(body, start=NEIGHBOUR.size)
            neighbours[_key(names[index], found[NDA_DST])] = found.get(NDA_LLADDR, b"").hex(":")
    return neighbours


@lru_cache(maxsize=CELLFUL)
def _key(link: str, packed: bytes) -> NeighbourKey:
    return NeighbourKey(link, IPv4Address(packed))


def put(kernel: NetlinkSocket, entries: Mapping[NeighbourKey, str]) -> None:
    """Write these. Raises HostRefused."""
    indexes = {name: index_of(name) for name in {key.device for key in entries}}
    bodies = {
        _named(key): _entry(indexes[key.device], key, state=NUD_PERMANENT) + attribute(NDA_LLADDR, octets(mac))
        for key, mac in entries.items()
    }
    put_all(kernel, RTM_NEWNEIGH, bodies, hint=HINT)


def drop(kernel: NetlinkSocket, keys: Iterable[NeighbourKey]) -> None:
    """Remove these; what has gone with its link is fine. Raises HostRefused."""
    keys = tuple(keys)
    indexes: dict[str, int] = {}
    for name in {key.device for key in keys}:
        with suppress(OSError):
            indexes[name] = socket.if_nametoindex(name)
    there = [key for key in keys if key.device in indexes]
    bodies = {_named(key): _entry(indexes[key.device], key) for key in there}
    drop_all(kernel, RTM_DELNEIGH, bodies, hint=HINT)


def look_up(kernel: NetlinkSocket, address: IPv4Address, *, index: int) -> str | None:
    """The MAC of a permanent entry of link `index`; None without one. Takes the time of one entry, however many there are."""
    (answer,) = kernel.ask(RTM_GETNEIGH, [NEIGHBOUR.pack(socket.AF_INET, index, 0, 0, 0) + attribute(NDA_DST, address.packed)])
    if isinstance(answer, OSError) or NEIGHBOUR.unpack_from(answer)[2] != NUD_PERMANENT:
        return None
    return contents(answer, start=NEIGHBOUR.size).get(NDA_LLADDR, b"").hex(":")


def _named(key: NeighbourKey) -> str:
    return f"the neighbour {key.address} on {key.device}"


def _entry(index: int, key: NeighbourKey, *, state: int = 0) -> bytes:
    return NEIGHBOUR.pack(socket.AF_INET, index, state, 0, 0) + attribute(NDA_DST, key.address.packed)
