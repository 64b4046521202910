"""The flows of containers with all that conntrack knows of each: what came over it, and since when. For those who look.

The judge of live flows reads the same table without these (`conntrack.py`), since it does so at every change.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, NamedTuple

from dataplane.flows import conntrack
from dataplane.flows.conntrack import CT_GET, Flow, Names, decode
from host.netlink.messages import NFGENMSG_IPV4, attributes, contents

CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY, CTA_TIMESTAMP = 9, 10, 20
CTA_COUNTERS_BYTES, CTA_TIMESTAMP_START = 2, 1
MOST: Final = 65_536  # entries that one look reads
_ADDRESSES: Final = struct.Struct("!16x4s4x4s40x4s")  # of a plain flow: source, destination, and what answers
NUMBER: Final = struct.Struct("!Q")
SETTINGS: Final = Path("/proc/sys/net/netfilter")


@dataclass(frozen=True, slots=True)
class CountedFlow:
    """A flow with the bytes that its opener and its other end have sent, None where the kernel does not count them; `began`
    is in seconds since 1970, None where the kernel does not keep it."""

    flow: Flow
    sent: int | None = None
    received: int | None = None
    began: float | None = None


class FlowTable(NamedTuple):
    """`whole` is false where there were more than MOST entries, of which so many were read."""

    flows: tuple[CountedFlow, ...]
    whole: bool


def look(*, within: IPv4Network) -> FlowTable:
    """Those of the calling thread's namespace that have an end in this network. Raises HostRefused."""
    with conntrack.connect() as link:
        bodies = link.dump(CT_GET, NFGENMSG_IPV4, what="connections", most=MOST)
    concerns, names = _concerning(within), Names()
    return FlowTable(tuple(counted(each, names) for each in bodies if concerns(each)), len(bodies) <= MOST)


def counted(body: bytes, names: Names) -> CountedFlow:
    """One entry, as a dump or an event has it."""
    sent = received = began = None
    for kind, start, end in attributes(body, start=len(NFGENMSG_IPV4)):
        if kind == CTA_COUNTERS_ORIG:
            sent = _number(body[start:end], CTA_COUNTERS_BYTES)
        elif kind == CTA_COUNTERS_REPLY:
            received = _number(body[start:end], CTA_COUNTERS_BYTES)
        elif kind == CTA_TIMESTAMP:
            nanoseconds = _number(body[start:end], CTA_TIMESTAMP_START)
            began = None if nanoseconds is None else nanoseconds / 1e9
    return CountedFlow(decode(body, names), sent, received, began)


def setting(name: str) -> int:
    """What the kernel of the calling thread's namespace is set to: `acct`, `timestamp`, `events` of its conntrack; 0 where it
    has no such thing."""
    try:
        return int((SETTINGS / f"nf_conntrack_{name}").read_text())
    except (OSError, ValueError):
        return 0


def _number(content: bytes, kind: int) -> int | None:
    found = contents(content).get(kind)
    return None if found is None else int(NUMBER.unpack(found)[0])


def _concerning(network: IPv4Network) -> Callable[[bytes], bool]:
    """Far cheaper than to read an entry; what is no plain flow may be taken for one that concerns the network."""
    first, last = network.network_address.packed, network.broadcast_address.packed

    def concerns(body: bytes) -> bool:
        if len(body) < _ADDRESSES.size:
            return True
        return any(first <= each <= last for each in _ADDRESSES.unpack_from(body))

    return concerns
