"""Which cell a tunnelled packet may come from: the one whose part of the overlay its inner source is in.

All peers come out of one tunnel, so once unwrapped nobody can tell them apart. Before that the set of peers writes each
one's part of the overlay into the outer packet's mark, and a program compares it with what is inside. The mark says how long
the prefix is, too: below it there is one bit, 10.255.2.128 for 10.255.2.0/24. Pure.
"""

from ipaddress import IPv4Address, IPv4Network
from typing import Final

# classic BPF: code, jump if true, jump if false, operand; at the start is the outer IP header
_MARK: Final = "32 0 0 4294963220"  # SKF_AD_OFF + SKF_AD_MARK
_KEEP, _RECALL = "2 0 0 {}", "97 0 0 {}"  # A into a cell of memory, X from one
_TAX, _NEGATE, _AND_X, _TWICE = "7 0 0 0", "132 0 0 0", "92 0 0 0", "100 0 0 1"
_FOREIGN: Final = (
    _MARK,
    "21 17 0 0",  # none: no peer's
    *(_TAX, _NEGATE, _AND_X, _TWICE, _NEGATE),  # its lowest bit, and the mask that is above it
    _KEEP.format(0),
    "177 0 0 0",  # the outer header's length into X; UDP has 8 octets, VXLAN 8, Ethernet 14
    "72 0 0 28",
    "21 0 8 2048",  # nothing but IPv4: nobody has to ask for a MAC
    "64 0 0 42",  # the inner source
    *(_RECALL.format(0), _AND_X, _KEEP.format(1)),
    *(_MARK, _AND_X, _RECALL.format(1)),
    "29 1 0 0",  # the same: skip the yes
    "6 0 0 65535",  # yes
    "6 0 0 0",  # no; also what a packet too short for one of the loads gets: it carries none
)


def foreign() -> str:
    """The bytecode for `-m bpf`: true for a tunnelled packet whose inner source is not in the part that its mark says."""
    return ",".join((str(len(_FOREIGN)), *_FOREIGN))


def mark_of(part: IPv4Network) -> IPv4Address:
    """A cell's part of the overlay as a mark, written as an address."""
    return IPv4Address(int(part.network_address) | int(part.hostmask) + 1 >> 1)
