"""Which of conntrack's events reach the socket of who follows: a program that the kernel runs on each. Pure.

Classic BPF on netlink's message. Of a flow pass its beginning and its end: of TCP when both ends have closed or one has reset
it, and once more when the entry goes, two minutes later; of all others when the entry goes.
"""

import socket
import struct
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from dataplane.flows.conntrack import CLOSE, CTA_PROTOINFO, TIME_WAIT

LOOPBACK: Final = IPv4Address("127.0.0.1")  # where Envoy takes a container's own calls
MOST_FLOODING: Final = 32  # containers of whose events only some pass
SAMPLE: Final = 64  # one of so many of these

_LITTLE: Final = sys.byteorder == "little"  # of netlink's own numbers; a program loads by network order
_KIND, _FLAGS = (4, 7) if _LITTLE else (5, 6)  # the lower octet of the type, the upper one of the flags
_DELETED, _CREATED = 2, 4  # IPCTNL_MSG_CT_DELETE; NLM_F_CREATE's bit in its octet
_SENDER: Final = 12
_FAMILY, _SOURCE, _DESTINATION, _PROTOCOL, _ANSWERING = 16, 32, 40, 52, 84  # of a plain flow, with netlink's header before it
_ATTRIBUTES: Final = 20
_AD_ATTRIBUTE, _AD_RANDOM = 0xFFFFF000 + 12, 0xFFFFF000 + 56
_LOAD, _OCTET, _OCTET_AT_X, _LENGTH_A, _LENGTH_X, _TAX = 0x20, 0x30, 0x50, 0x00, 0x01, 0x07
_AND, _EQUAL, _BITS, _JUMP, _RETURN = 0x54, 0x15, 0x45, 0x05, 0x06
_STATE: Final = 12  # from CTA_PROTOINFO to TCP's state in it, which the kernel writes first
_INSTRUCTION: Final = struct.Struct("=HBBI")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Flows with an end in `within` pass, but for those to `without`; of what the `flooding` begin or answer one of SAMPLE."""

    within: IPv4Network
    without: IPv4Address
    flooding: frozenset[IPv4Address] = frozenset()

    def program(self) -> bytes:
        """As `struct sock_filter` has it, one after the other."""
        return _assembled(tuple(self._lines()))

    def _lines(self) -> Iterator["_Line"]:
        yield from ((_OCTET, _FAMILY), (_EQUAL, 2, "", "no"))
        yield from self._concerning()
        yield from ((_LOAD, _DESTINATION), (_EQUAL, int(self.without), "no", ""))
        yield from _beginning_and_end()
        for offset in (_SOURCE, _ANSWERING) if self.flooding else ():
            yield (_LOAD, offset)
            yield from ((_EQUAL, int(each), "sample", "") for each in sorted(self.flooding)[:MOST_FLOODING])
        yield from _answers()

    def _concerning(self) -> Iterator["_Line"]:
        network, mask = int(self.within.network_address), int(self.within.netmask)
        for offset in (_SOURCE, _DESTINATION, _ANSWERING):
            last = offset == _ANSWERING
            yield from ((_LOAD, offset), (_AND, mask), (_EQUAL, network, "concerns", "no" if last else ""))
        yield "concerns"


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """For the namespace of the container at `address`: its connections pass that come to its own address, or leave by Envoy."""

    address: IPv4Address

    def program(self) -> bytes:
        """As that of EventFilter."""
        return _assembled(tuple(self._lines()))

    def _lines(self) -> Iterator["_Line"]:
        yield from ((_OCTET, _FAMILY), (_EQUAL, 2, "", "no"))
        yield from ((_OCTET, _PROTOCOL), (_EQUAL, socket.IPPROTO_TCP, "", "no"))
        yield from ((_LOAD, _DESTINATION), (_EQUAL, int(self.address), "concerns", ""))
        yield from ((_LOAD, _ANSWERING), (_EQUAL, int(LOOPBACK), "concerns", "no"))
        yield "concerns"
        yield from _beginning_and_end()
        yield from _answers()


_Line = str | tuple[int, int] | tuple[int, int, str, str]
"""A place, by its name; or an instruction with its operand, and where a comparison goes on if it holds, or does not."""


def _beginning_and_end() -> Iterator[_Line]:
    """What is neither passes no further than here."""
    yield from ((_OCTET, _KIND), (_EQUAL, _DELETED, "share", ""))
    yield from ((_OCTET, _FLAGS), (_BITS, _CREATED, "share", ""))
    yield from ((_LOAD, _SENDER), (_EQUAL, 0, "", "share"))  # a program has changed it: the agent, before it cuts
    yield from _state("no")
    yield from ((_EQUAL, TIME_WAIT, "share", ""), (_EQUAL, CLOSE, "share", "no"))
    yield "share"


def _answers() -> Iterator[_Line]:
    yield from ("yes", (_RETURN, 0xFFFFFFFF))
    yield from ("sample", (_LOAD, _AD_RANDOM), (_AND, SAMPLE - 1), (_EQUAL, 0, "yes_too", ""))
    yield from ("no", (_RETURN, 0))
    yield from ("yes_too", (_RETURN, 0xFFFFFFFF))


def _state(otherwise: str) -> Sequence[_Line]:
    """TCP's state in A; where there is none it goes on there."""
    return (
        (_LENGTH_A, _ATTRIBUTES), (_LENGTH_X, CTA_PROTOINFO), (_LOAD, _AD_ATTRIBUTE), (_EQUAL, 0, otherwise, ""),
        (_TAX, 0), (_OCTET_AT_X, _STATE),
    )  # fmt: skip


def _assembled(lines: Collection[_Line]) -> bytes:
    places: dict[str, int] = {}
    made: list[tuple[int, int] | tuple[int, int, str, str]] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(made)
        else:
            made.append(line)

    def distance(place: str, here: int) -> int:
        return places[place] - here - 1 if place else 0

    return b"".join(
        _INSTRUCTION.pack(line[0], distance(line[2], at), distance(line[3], at), line[1])
        if len(line) == 4
        else _INSTRUCTION.pack(line[0], 0, 0, line[1])
        for at, line in enumerate(made)
    )
