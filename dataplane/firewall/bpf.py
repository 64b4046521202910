"""Programs for `-m bpf`, as its bytecode: only a program can compare two fields of a packet. Pure.

Classic BPF: code, jump if true, jump if false, operand; at the start of the packet is its IP header. What is too short for one
of the loads gets no.
"""

from ipaddress import IPv4Address, IPv4Network
from typing import Final

_YES, _NO = "6 0 0 65535", "6 0 0 0"
_EQUAL: Final = ("29 1 0 0", _YES, _NO)  # A and X: skip the yes
_HEADER_LENGTH_TO_X, _TAX = "177 0 0 0", "7 0 0 0"
_MARK: Final = "32 0 0 4294963220"  # SKF_AD_OFF + SKF_AD_MARK
_KEEP, _RECALL = "2 0 0 {}", "97 0 0 {}"  # A into a cell of memory, X from one
_NEGATE, _AND_X, _TWICE = "132 0 0 0", "92 0 0 0", "100 0 0 1"

_ERRORS: Final = (3, 4, 5, 11, 12)  # unreachable, source quench, redirect, time exceeded, parameter problem
_QUOTED: Final = (
    "64 0 0 24",  # destination of the quoted packet: 8 octets of ICMP, then 16 of the quoted header
    _TAX,
    "32 0 0 12",  # source of the error
    *_EQUAL,
)
_ORIGIN: Final = (
    _MARK,
    "21 17 0 0",  # none: no peer's
    *(_TAX, _NEGATE, _AND_X, _TWICE, _NEGATE),  # its lowest bit, and the mask that is above it
    _KEEP.format(0),
    _HEADER_LENGTH_TO_X,  # the outer one's; UDP has 8 octets, VXLAN 8, Ethernet 14
    "72 0 0 28",
    "21 0 8 2048",  # nothing but IPv4: no cell has to ask for a MAC
    "64 0 0 42",  # the inner source
    *(_RECALL.format(0), _AND_X, _KEEP.format(1)),
    *(_MARK, _AND_X, _RECALL.format(1)),
    *_EQUAL,
)


def _bytecode(*program: str) -> str:
    return ",".join((str(len(program)), *program))


def _is_error() -> tuple[str, ...]:
    """Load the ICMP type and go on with what follows if it is an error, else to the end of `_QUOTED`, its no."""
    last = len(_ERRORS) - 1
    jumps = (f"21 {last - number} {0 if number < last else len(_QUOTED) - 1} {kind}" for number, kind in enumerate(_ERRORS))
    return ("80 0 0 0", *jumps)


FOREIGN_QUOTE: Final = _bytecode(_HEADER_LENGTH_TO_X, *_is_error(), *_QUOTED)
"""True for an ICMP error that quotes a packet which was not sent to the error's sender.

conntrack relates an error to the flow that it quotes, whatever its source: any container that guesses two ports could refuse
another's datagrams or shrink the host's path to a peer. A container is no router, so its errors are about packets that were
sent to itself.
"""

FOREIGN_ORIGIN: Final = _bytecode(*_ORIGIN)
"""True for a tunnelled packet whose inner source is not in the part of the overlay that its mark says (`part_mark`).

All peers come out of one tunnel, so once unwrapped they cannot be told apart. Before that the set of peers writes each one's
part of the overlay into the outer packet's mark, and this compares it with what is inside.
"""

LABELS: Final = 12  # as many as 64 instructions hold, which are all that `-m bpf` takes
_LABEL: Final = 20  # after the IP header: UDP has 8 octets, a message of DNS 12 before its first name


def _labels() -> tuple[str, ...]:
    """Go from one label's length to the next; X is as far as they have led, without the lengths themselves."""
    found: list[str] = []
    for number in range(LABELS):
        left = 5 * (LABELS - number - 1)  # instructions until the yes, but for those of this label
        found += [
            f"80 0 0 {_LABEL + number}",  # how long it is
            f"53 {left + 3} 0 192",  # it is elsewhere
            f"21 {left + 3} 0 0",  # none: the name is over
            "12 0 0 0",
            _TAX,
        ]
    return tuple(found)


LONG_NAME: Final = _bytecode(_HEADER_LENGTH_TO_X, *_labels(), _YES, _NO)
"""True for a question whose name has twelve labels or more, or goes on elsewhere in the message (a pointer).

dnsmasq takes names that go on in the message's header. They become other names when it asks on with a number of its own, so
that it knows no answer by them, and each keeps one of its few places for questions for ten seconds.
"""


def part_mark(part: IPv4Network) -> IPv4Address:
    """A cell's part of the overlay as a mark, written as an address.

    It says how long the prefix is, too: below it there is one bit, 10.255.2.128 for 10.255.2.0/24.
    """
    return IPv4Address(int(part.network_address) | int(part.hostmask) + 1 >> 1)
