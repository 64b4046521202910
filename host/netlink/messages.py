"""Netlink's messages as bytes: header and attributes, and the numbers that more than one part of the kernel's interface uses.

The names are those of the kernel's headers (linux/netlink.h, nfnetlink.h, sock_diag.h). Numbers of one part alone stand in
the file that speaks with that part.
"""

import socket
import struct
from collections.abc import Iterator
from enum import IntEnum

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400

ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF

NFGENMSG_IPV6 = struct.pack("=BBH", socket.AF_INET6, 0, 0)
NFGENMSG_IPV4 = struct.pack("=BBH", socket.AF_INET, 0, 0)  # family, version, resource: leads every message of netfilter

SOCK_DIAG_BY_FAMILY = 20


class SocketState(IntEnum):
    """The states of sockets, TCP's and all others', as the kernel numbers them."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    FIN_WAIT_1 = 4
    FIN_WAIT_2 = 5
    TIME_WAIT = 6
    CLOSED = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECEIVED = 12


def attribute(kind: int, content: bytes) -> bytes:
    """One attribute, padded."""
    length = ATTRIBUTE.size + len(content)
    return ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(body: bytes, *, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """Type, start and end of the content of each attribute from `start` on."""
    offset, size, unpack = start, len(body), ATTRIBUTE.unpack_from
    while offset + 4 <= size:
        length, kind = unpack(body, offset)
        if length < 4:
            return
        yield kind & NLA_TYPE_MASK, offset + 4, offset + length
        offset += (length + 3) & ~3


def contents(body: bytes, *, start: int = 0) -> dict[int, bytes]:
    """The content of each attribute from `start` on, by its type; of several of one type the last."""
    return {kind: body[begin:end] for kind, begin, end in attributes(body, start=start)}
