"""What a network card's driver says of itself: its name, and which work it takes over from the kernel (ioctl SIOCETHTOOL)."""

import fcntl
import socket
import struct
from ctypes import addressof, create_string_buffer
from typing import Final

from host.errors import refused_as

SIOCETHTOOL: Final = 0x8946
GET_DRIVER, GET_STRINGS, GET_FEATURES, GET_COUNTS = 0x03, 0x1B, 0x3A, 0x37
FEATURE_NAMES: Final = 4  # ETH_SS_FEATURES
NAME = 32  # bytes, of a string of ethtool's
BLOCK: Final = struct.Struct("=IIII")  # of 32 features: available, requested, active, never changed
REQUEST: Final = struct.Struct("=16sQ16x")


def driver(interface: str) -> str:
    """The driver's name. Raises HostRefused."""
    answer = _asked(interface, struct.pack("=I", GET_DRIVER).ljust(196, b"\0"))
    return answer[4:36].partition(b"\0")[0].decode(errors="replace")


def features(interface: str) -> dict[str, bool]:
    """By ethtool's name whether each is on. Raises HostRefused."""
    counted = _asked(interface, struct.pack("=IIQI", GET_COUNTS, 0, 1 << FEATURE_NAMES, 0))
    count = struct.unpack_from("=I", counted, 16)[0]
    names = _asked(interface, struct.pack("=III", GET_STRINGS, FEATURE_NAMES, count).ljust(12 + count * NAME, b"\0"))
    blocks = (count + 31) // 32
    found = _asked(interface, struct.pack("=II", GET_FEATURES, blocks).ljust(8 + blocks * BLOCK.size, b"\0"))
    active = [BLOCK.unpack_from(found, 8 + number * BLOCK.size)[2] for number in range(blocks)]
    texts = [names[12 + number * NAME : 12 + (number + 1) * NAME].partition(b"\0")[0].decode() for number in range(count)]
    return {text: bool(active[number // 32] >> number % 32 & 1) for number, text in enumerate(texts) if text}


def _asked(interface: str, question: bytes) -> bytes:
    buffer = create_string_buffer(question, len(question))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
        refused_as(f"cannot ask the driver of {interface}", hint="see `ip link`"),
    ):
        fcntl.ioctl(asking, SIOCETHTOOL, REQUEST.pack(interface.encode(), addressof(buffer)))
    return buffer.raw
