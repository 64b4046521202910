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
from dataplane.sets.messages import addressed, parts_of
from host.netlink.messages import NETLINK_NETFILTER, NETLINK_ROUTE
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
    with connect(NETLINK_NETFILTER) as link:
        for address, entry in addressed(link, name):
            (packets,) = parts_of(entry, kind=PACKETS)
            yield address, struct.unpack("!Q", packets)[0]
