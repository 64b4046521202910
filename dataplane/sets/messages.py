"""How sets are asked for and changed, in binary: the parts of messages that all of them share.

Several entries go at a time: there may be a thousand.
"""

import struct
import time
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Address
from typing import Final

from host.errors import HostRefused
from host.netlink.messages import NFGENMSG_IPV4, NLM_F_ACK, attribute, attributes, nested
from host.netlink.socket import NetlinkSocket

CREATE, DESTROY, LIST, ADD, DELETE = 0x602, 0x603, 0x607, 0x609, 0x60A  # subsystem 6 is ipset
PROTOCOL, SET, TYPE, REVISION, FAMILY, ASKED_FLAGS, CONTENT, ENTRIES = 1, 2, 3, 4, 5, 6, 7, 8
IP, FLAGS, MOST, COUNT = 1, 8, 19, 24
IPV4_ADDRESS, IN_NETWORK_ORDER, HEADERS = 1, 0x4000, 1 << 2
HINT = "the kernel needs the ip_set and ip_set_hash_ip modules"
IN_USE: Final = 4100  # IPSET_ERR_BUSY: a rule names the set
GONE: Final = 2  # ENOENT
PATIENCE: Final = 0.5  # seconds: nft lets go of a set some milliseconds after the rule that named it
PAUSE: Final = 0.005


def named(name: str) -> bytes:
    """How a message begins that is about one set."""
    return NFGENMSG_IPV4 + attribute(PROTOCOL, b"\x06") + attribute(SET, name.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits."""
    return attribute(kind | IN_NETWORK_ORDER, struct.pack("!I", value))


def address_entry(address: IPv4Address, more: bytes = b"") -> bytes:
    """An entry, with `more` attributes."""
    return nested(CONTENT, nested(IP, attribute(IPV4_ADDRESS | IN_NETWORK_ORDER, address.packed)) + more)


def parts_of(body: bytes, *, kind: int, start: int = 0) -> list[bytes]:
    """The contents of all attributes of one kind."""
    return [body[begin:end] for found, begin, end in attributes(body, start=start) if found == kind]


def entries(link: NetlinkSocket, name: str) -> Iterator[bytes]:
    """What is in a set, the attributes of one entry after the other; a set that is not there has none. Raises HostRefused."""
    try:
        bodies = link.dump(LIST, named(name), what=f"set {name}")
    except HostRefused as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return
        raise
    for body in bodies:
        for held in parts_of(body, start=len(NFGENMSG_IPV4), kind=ENTRIES):
            yield from parts_of(held, kind=CONTENT)


def addressed(link: NetlinkSocket, name: str) -> Iterator[tuple[IPv4Address, bytes]]:
    """The same, each with its address; what has none is of a set of another type, and left out. Raises HostRefused."""
    for entry in entries(link, name):
        for address in parts_of(entry, kind=IP):
            yield from ((IPv4Address(packed), entry) for packed in parts_of(address, kind=IPV4_ADDRESS))


def listed(link: NetlinkSocket, *, prefix: str) -> Iterator[tuple[str, int]]:
    """The sets whose names begin so, each with the number of its entries, -1 where it is not known. Raises HostRefused."""
    for body in link.dump(LIST, NFGENMSG_IPV4 + attribute(PROTOCOL, b"\x06") + number(ASKED_FLAGS, HEADERS), what="sets"):
        for raw in parts_of(body, start=len(NFGENMSG_IPV4), kind=SET):
            name = raw.rstrip(b"\0").decode(errors="replace")
            if name.startswith(prefix):
                headers = parts_of(body, start=len(NFGENMSG_IPV4), kind=CONTENT)
                counts = [count for each in headers for count in parts_of(each, kind=COUNT)]
                yield name, int.from_bytes(counts[0], "big") if counts else -1


def destroy(link: NetlinkSocket, names: Collection[str], *, clock: Callable[[], float] = time.monotonic) -> None:
    """Remove sets. One that a rule of another program names stays until it is let go. Raises HostRefused."""
    until, left = clock() + PATIENCE, list(names)
    while left:
        answers = link.ask(DESTROY, [named(name) for name in left], flags=NLM_F_ACK)
        refused = [(name, each) for name, each in zip(left, answers, strict=True) if isinstance(each, OSError)]
        for name, error in refused:
            if error.errno not in (IN_USE, GONE):
                raise HostRefused(f"cannot remove set {name}: {error.strerror}", hint=HINT) from error
        left = [name for name, error in refused if error.errno == IN_USE]
        if not left or clock() > until:
            return
        time.sleep(PAUSE)
