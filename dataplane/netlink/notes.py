"""Packets that were refused, as the kernel notes them (`dataplane/firewall/notes.py`): heard over netlink, read as values.

What cannot be heard in time the kernel drops, and says that it has: it never waits for who listens.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from dataplane.tables import NOTES_GROUP, TAG_MASK, Note
from host.errors import HostRefused
from host.netlink.messages import HEADER, NETLINK_NETFILTER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, attribute, contents
from host.netlink.multicast import take_waiting

# linux/netfilter/nfnetlink_log.h
ULOG: Final = 4 << 8
PACKET, CONFIG = ULOG | 0, ULOG | 1
NFULA_PACKET_HDR, NFULA_MARK, NFULA_IFINDEX_OUTDEV, NFULA_PAYLOAD, NFULA_PREFIX = 1, 2, 5, 9, 10
NFULA_CFG_CMD, NFULA_CFG_MODE, NFULA_CFG_TIMEOUT, NFULA_CFG_QTHRESH = 1, 2, 4, 5
BIND: Final = 1
COPY: Final = struct.Struct(">IBx").pack(64, 2)  # so many bytes of each packet
TIMEOUT: Final = struct.pack(">I", 1)  # hundredths of a second that some wait for more: a user asks right after the call
GATHER: Final = struct.pack(">I", 32)  # packets in one message at most
GENERIC: Final = struct.Struct(">BBH")  # family, version, group
RECEIVE: Final = 1 << 17
LARGE: Final = 1 << 20  # bytes of the socket's buffer: some thousand packets
NOTES: Final = {each.value: each for each in Note}
ENDS: Final = struct.Struct(">4s4s")
PORTS: Final = struct.Struct(">HH")
ECHO: Final = 8  # the type of a ping


@dataclass(frozen=True, slots=True)
class NotedPacket:
    """`port` is that of the destination, of ICMP its type, 0 for a ping and where there is none; `tag` is of the app that sent
    it, 0 where it has none yet. `leaves`: it was on its way through this host, and not for the host itself. `source_port` of a
    ping is the number that it bears.
    """

    note: Note
    protocol: int
    source: IPv4Address
    to: IPv4Address
    port: int
    tag: int
    leaves: bool
    source_port: int = 0


class Notes:
    """The notes of the network namespace that the calling thread is in when this is made. Raises HostRefused."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            self._socket.settimeout(5)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LARGE)
            self._configure(attribute(NFULA_CFG_CMD, bytes([BIND])))
            self._configure(
                attribute(NFULA_CFG_MODE, COPY) + attribute(NFULA_CFG_TIMEOUT, TIMEOUT) + attribute(NFULA_CFG_QTHRESH, GATHER)
            )
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            hint = f"see that no other program listens to group {NOTES_GROUP} of NFLOG, and that the kernel has nfnetlink_log"
            raise HostRefused(f"what is refused cannot be heard of: {error.strerror}", hint=hint) from error

    @property
    def descriptor(self) -> int:
        """Readable when there is something to take."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def take(self, *, most: int) -> tuple[Sequence[NotedPacket], int]:
        """Packets, of so many messages at the most, and how often the kernel had to drop some."""
        received, lost = take_waiting(self._socket, most=most, size=RECEIVE)
        return [packet for each in received for packet in _packets(each)], lost

    def _configure(self, content: bytes) -> None:
        body = GENERIC.pack(socket.AF_UNSPEC, 0, NOTES_GROUP) + content
        self._socket.send(HEADER.pack(HEADER.size + len(body), CONFIG, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
        received = self._socket.recv(RECEIVE)
        _, kind, _, _, _ = HEADER.unpack_from(received)
        number = -struct.unpack_from("=i", received, HEADER.size)[0] if kind == NLMSG_ERROR else 0
        if number:
            raise OSError(number, os.strerror(number))


def _packets(received: bytes) -> Iterator[NotedPacket]:
    offset = 0
    while offset + HEADER.size <= len(received):
        length, kind, _, _, _ = HEADER.unpack_from(received, offset)
        if length < HEADER.size:
            return
        if kind == PACKET:
            found = _packet(contents(received[offset + HEADER.size + GENERIC.size : offset + length]))
            if found is not None:
                yield found
        offset += (length + 3) & ~3


def _packet(found: dict[int, bytes]) -> NotedPacket | None:
    """None for what is no IPv4 packet that we have noted."""
    packet = found.get(NFULA_PAYLOAD, b"")
    note = NOTES.get(found.get(NFULA_PREFIX, b"").rstrip(b"\0").decode(errors="replace"))
    if note is None or len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    source, to = ENDS.unpack_from(packet, 12)
    length, protocol, is_first = (packet[0] & 15) * 4, packet[9], not packet[6] & 0x1F and not packet[7]
    source_port = port = 0
    if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) and is_first and len(packet) >= length + PORTS.size:
        source_port, port = PORTS.unpack_from(packet, length)
    elif protocol == socket.IPPROTO_ICMP and is_first and len(packet) > length:
        if packet[length] == ECHO:
            source_port = int.from_bytes(packet[length + 4 : length + 6], "big")
        else:
            port = packet[length]
    mark = int.from_bytes(found.get(NFULA_MARK, b""), "big")
    return NotedPacket(
        note,
        protocol,
        IPv4Address(source),
        IPv4Address(to),
        port,
        mark & TAG_MASK,
        NFULA_IFINDEX_OUTDEV in found,
        source_port,
    )
