"""How often containers have come to their limits, as the kernel has counted it since each has had them.

Refused flows are counted by the sets that the rules name (`firewall/limits.py`), packets by what slows them down
(`netlink/link_rates.py`).
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from dataplane.firewall.limits import OVER_NEW, OVER_OPEN
from dataplane.netlink import link_rates, links
from dataplane.sets.ipset import CONTENT, ENTRIES, IP, IPV4_ADDRESS, LIST, PROTOCOL, SET, parts_of
from host.errors import HostRefused
from host.netlink.messages import NETLINK_NETFILTER, NETLINK_ROUTE, NFGENMSG_IPV4, attribute
from host.netlink.socket import connect

PACKETS: Final = 25


class LimitHits(NamedTuple):
    """Flows to the outside that were refused, as new ones and as open ones too many, and packets that were dropped on their way
    in and out."""

    new: int = 0
    connections: int = 0
    received: int = 0
    sent: int = 0


def limit_hits() -> dict[IPv4Address, LimitHits]:
    """Of all containers with limits in the namespace of the calling thread that have come to one. Raises HostRefused."""
    new, connections = dict(_counted(OVER_NEW)), dict(_counted(OVER_OPEN))
    with connect(NETLINK_ROUTE) as kernel:
        held = link_rates.held(kernel, links.read(kernel))
    none = link_rates.Held(0, 0)
    found = {
        each: LimitHits(new.get(each, 0), connections.get(each, 0), *held.get(each, none))
        for each in {*new, *connections, *held}
    }
    return {address: hits for address, hits in sorted(found.items()) if any(hits)}


def _counted(name: str) -> Iterator[tuple[IPv4Address, int]]:
    named = attribute(PROTOCOL, b"\x06") + attribute(SET, name.encode() + b"\0")
    try:
        with connect(NETLINK_NETFILTER) as link:
            bodies = link.dump(LIST, NFGENMSG_IPV4 + named, what=f"set {name}")
    except HostRefused as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return
        raise
    for body in bodies:
        for entries in parts_of(body, start=len(NFGENMSG_IPV4), kind=ENTRIES):
            for entry in parts_of(entries, kind=CONTENT):
                (packed,) = (each for address in parts_of(entry, kind=IP) for each in parts_of(address, kind=IPV4_ADDRESS))
                (packets,) = parts_of(entry, kind=PACKETS)
                yield IPv4Address(packed), struct.unpack("!Q", packets)[0]
