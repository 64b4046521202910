"""What one container may have of dnsmasq, which all of the cell share. The kernel holds it to that (`firewall/resolver.py`).

dnsmasq answers datagrams one after another, from some 10 µs of a processor for an app of a few instances to half a millisecond
for one of 500. For each TCP connection it forks: that takes half a millisecond, and as many connections as it takes at most are
open for 150 s, whether anything is asked on them or not.
"""

from typing import Final

RATE: Final = 1_000  # datagrams a second of one container, as many at once
LONG_RATE: Final = 5  # of these, questions with a name of very many labels, and
LONG_BURST: Final = 20  # so many at once
CALLS_RATE: Final = 50  # new TCP connections a second of one container, and
CALLS_BURST: Final = 100  # so many at once
CALLS_OPEN: Final = 4  # of one container, where the cell is no larger than 256 addresses
CHILDREN: Final = 1_024  # processes of dnsmasq for TCP, 350 kB each with all that the kernel keeps of them
OWN_CALLS: Final = 16  # of the host itself


def open_calls(addresses: int) -> int:
    """How many TCP connections one of a cell's containers may have open, so that all together do not have all of dnsmasq's.

    With more than CHILDREN addresses it is one, and that many containers at their limit leave the others UDP alone.
    """
    return max(1, min(CALLS_OPEN, CHILDREN // addresses))


def most_children(addresses: int) -> int:
    """How many TCP connections dnsmasq takes at once."""
    return min(CHILDREN, open_calls(addresses) * addresses) + OWN_CALLS
