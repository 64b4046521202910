"""What conntrack tells of flows as they begin and end, heard over netlink by who follows. Nothing is told while none does.

What cannot be heard in time the kernel drops, and says that it has: it never waits for who listens.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from dataplane.flows.conntrack import CT_NEW, LAST_ACK, TIME_WAIT, Names
from dataplane.flows.event_filter import EventFilter, StreamFilter
from dataplane.flows.flow_table import CountedFlow, counted
from host.errors import HostRefused
from host.netlink.messages import HEADER, NETLINK_NETFILTER
from host.netlink.multicast import take_waiting
from host.netlink.socket import NETLINK_ADD_MEMBERSHIP, SOL_NETLINK

BEGUN, CHANGED, GONE = 1, 2, 3  # NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY
NETLINK_DROP_MEMBERSHIP: Final = 2
CREATED: Final = 0x400  # NLM_F_CREATE
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_MEMINFO = 26, 33, 55
MEMORY: Final = struct.Struct("=2I")  # of SO_MEMINFO: what waits, and how much may
LARGE: Final = 8 << 20  # 13,000 events
SMALL: Final = 512 << 10  # 800
RECEIVE: Final = 1 << 13  # more than one event has
NAMES: Final = 4_096  # addresses that are kept as objects


class Change(Enum):
    """What has become of a flow."""

    BEGUN = auto()
    ENDED = auto()  # by itself
    CUT = auto()  # by a program, which is the agent


@dataclass(frozen=True, slots=True)
class FlowEvent:
    """One event."""

    change: Change
    counted: CountedFlow


class FlowEvents:
    """The events of the network namespace that the calling thread is in when this is made, as far as they pass; for so many
    octets of events the kernel has room, and as much again. Raises HostRefused."""

    def __init__(self, passes: EventFilter | StreamFilter, *, room: int = LARGE) -> None:
        self._filter = passes
        self._names: Names = {}
        self._at_once = True
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        except OSError as error:  # there may be no descriptor left
            raise _refused(error) from error
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, room)
            self._attach()
            self._socket.bind((0, 0))
            for group in (BEGUN, CHANGED, GONE):
                self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            self._socket.close()
            raise _refused(error) from error

    @property
    def descriptor(self) -> int:
        """Readable when there is something to take."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def take(self, *, most: int) -> tuple[Sequence[FlowEvent], int]:
        """So many at the most, and how often the kernel had to drop some."""
        try:
            received, lost = take_waiting(self._socket, most=most, size=RECEIVE)
        except OSError as error:
            raise _refused(error) from error
        return [self._event(each) for each in received], lost

    @property
    def is_pressed(self) -> bool:
        """Whether so much waits that the kernel will have to drop some before long."""
        waiting, most = MEMORY.unpack(self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMORY.size))
        return bool(2 * waiting > most)

    def let_pass(self, passes: EventFilter) -> None:
        """These alone from now on."""
        if passes != self._filter:
            self._filter = passes
            self._attach()

    def ask_for_ends(self, *, at_once: bool) -> None:
        """Whether a connection's end is heard of at once, which costs the kernel 12 µs for each, or when its entry goes."""
        if at_once != self._at_once:
            self._at_once = at_once
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP if at_once else NETLINK_DROP_MEMBERSHIP, CHANGED)

    def _attach(self) -> None:
        program = self._filter.program()
        held = ctypes.create_string_buffer(program, len(program))
        described = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)

    def _event(self, received: bytes) -> FlowEvent:
        _, kind, flags, _, port = HEADER.unpack_from(received)
        if len(self._names) > NAMES:
            self._names.clear()
        found = counted(received[HEADER.size :], self._names)
        if kind == CT_NEW and flags & CREATED:
            return FlowEvent(Change.BEGUN, found)
        return FlowEvent(Change.CUT if port and found.flow.tcp_state not in (LAST_ACK, TIME_WAIT) else Change.ENDED, found)


def _refused(error: OSError) -> HostRefused:
    hint = "see that the kernel has nf_conntrack_netlink"
    return HostRefused(f"what begins and ends cannot be followed: {error.strerror}", hint=hint)
