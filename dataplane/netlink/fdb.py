"""The tunnel's forwarding table: the MAC of each peer's end, and the underlay address that its frames are sent to."""

import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from dataplane.netlink.links import LINK, index_of
from dataplane.netlink.neighbours import NDA_DST, NDA_LLADDR, NEIGHBOUR, NUD_PERMANENT, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH
from dataplane.netlink.rtnetlink import drop_all, octets, put_all
from dataplane.tables import TUNNEL_LINK
from host.netlink.messages import attribute, contents
from host.netlink.socket import NetlinkSocket

NTF_SELF = 2
NDA_PORT, NDA_VNI, NDA_IFINDEX = 6, 7, 8
FOREIGN = {NDA_PORT, NDA_VNI, NDA_IFINDEX}  # of an entry that goes by another port, number or link than its device's
ODD = IPv4Address(0)  # stands for whatever we would not have written
HINT = "see `bridge fdb`"

Fdb = Mapping[str, tuple[IPv4Address, ...]]


def read(kernel: NetlinkSocket, index: int) -> dict[str, tuple[IPv4Address, ...]]:
    """All of the device of that index. Raises HostRefused."""
    found: dict[str, list[IPv4Address]] = {}
    for body in kernel.dump(RTM_GETNEIGH, LINK.pack(socket.AF_BRIDGE, 0, index, 0, 0), what="forwarding entries"):
        _, where, state, _, _ = NEIGHBOUR.unpack_from(body)
        if where != index:
            continue
        entry = contents(body, start=NEIGHBOUR.size)
        target = entry.get(NDA_DST, b"")
        plain = state == NUD_PERMANENT and len(target) == 4 and not FOREIGN & entry.keys()
        found.setdefault(entry.get(NDA_LLADDR, b"").hex(":"), []).append(IPv4Address(target) if plain else ODD)
    return {mac: tuple(sorted(targets)) for mac, targets in found.items()}


def put(kernel: NetlinkSocket, entries: Fdb, *, old: Fdb) -> None:
    """Write these; `old` are those that some of them replace. Raises HostRefused."""
    drop(kernel, [mac for mac, targets in old.items() if ODD in targets])  # not all of them can be replaced
    index = index_of(TUNNEL_LINK) if entries else 0
    bodies = {
        f"the forwarding entry {mac}": _entry(index, mac) + attribute(NDA_DST, targets[0].packed)
        for mac, targets in entries.items()
    }
    put_all(kernel, RTM_NEWNEIGH, bodies, hint=HINT)


def drop(kernel: NetlinkSocket, macs: Iterable[str]) -> None:
    """Remove these; what has gone with the device is fine. Raises HostRefused."""
    try:
        index = socket.if_nametoindex(TUNNEL_LINK)
    except OSError:
        return
    drop_all(kernel, RTM_DELNEIGH, {f"the forwarding entry {mac}": _entry(index, mac) for mac in macs}, hint=HINT)


def _entry(index: int, mac: str) -> bytes:
    return NEIGHBOUR.pack(socket.AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, 0) + attribute(NDA_LLADDR, octets(mac))
