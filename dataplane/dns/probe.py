"""One question to dnsmasq, to see that it answers and goes by the folder of names. Pure."""

import struct
from ipaddress import IPv4Address
from typing import Final

HEADER: Final = struct.Struct("!6H")  # number, flags, and how many questions, answers, authorities and additions
RESPONSE, CODE = 0x8000, 0x000F
A, INTERNET = 1, 1
PROBED: Final = "cellnet.invalid"  # what it is asked for is below: of no one's zones


def question(name: str, *, number: int) -> bytes:
    """For the addresses of a name."""
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
    return HEADER.pack(number, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", A, INTERNET)


def is_answer(message: bytes, *, number: int) -> bool:
    """Whether it answers the question of that number, with whatever."""
    return len(message) >= HEADER.size and message[:2] == struct.pack("!H", number) and bool(message[2] & RESPONSE >> 8)


def says(message: bytes, address: IPv4Address) -> bool:
    """Whether an answer has this address and no other: the last four octets of its only record."""
    _, flags, _, answers, _, additions = HEADER.unpack_from(message)
    return not flags & CODE and (answers, additions) == (1, 0) and message[-4:] == address.packed
