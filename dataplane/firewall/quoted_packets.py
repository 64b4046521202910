"""Whose ICMP errors may be believed.

An error quotes the packet that it is about. conntrack relates it to that packet's flow, whoever has sent it: any container that
guesses two ports could refuse another's datagrams or shrink the host's path to a peer. A container is no router, so its errors
are about packets that were sent to itself; all others are dropped. Only a program can compare two fields of a packet.
"""

from typing import Final

ERRORS: Final = (3, 4, 5, 11, 12)  # unreachable, source quench, redirect, time exceeded, parameter problem
# classic BPF: code, jump if true, jump if false, operand; at the start is the IP header
_HEADER_LENGTH_TO_X: Final = "177 0 0 0"
_LOAD_TYPE: Final = "80 0 0 0"
_COMPARE: Final = (
    "64 0 0 24",  # destination of the quoted packet: 8 octets of ICMP, then 16 of the quoted header
    "7 0 0 0",
    "32 0 0 12",  # source of the error
    "29 1 0 0",  # the same: skip the yes
    "6 0 0 65535",  # yes
    "6 0 0 0",  # no; also what a packet too short for one of the loads gets
)


def about_others() -> str:
    """The bytecode for `-m bpf`: true for an error that quotes a packet which was not sent to the error's sender."""
    last = len(ERRORS) - 1
    jumps = [f"21 {last - number} {0 if number < last else len(_COMPARE) - 1} {kind}" for number, kind in enumerate(ERRORS)]
    program = (_HEADER_LENGTH_TO_X, _LOAD_TYPE, *jumps, *_COMPARE)
    return ",".join((str(len(program)), *program))
