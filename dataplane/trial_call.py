"""One call from inside a container, as an app there would make it: what becomes of it, and nothing more.

It is made by a thread in the container's namespace, so it meets all that an app's call meets. It sends no content, holds no
connection, and ends in bounded time, whatever root inside has made of the namespace.
"""

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.rdatatype

from host.errors import refused_as
from host.namespace import run_in

PATIENCE: Final = 3.0  # seconds for which an answer is waited for
ANSWER_TO_DATAGRAM: Final = 1.0  # an app may have nothing to say to an empty one: only a refusal is sure to come
ECHO, ECHO_ANSWER, RESOLVER_PORT = 8, 0, 53
REFUSALS: Final = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPERM)
Begun = Callable[[int], None]
"""Hears of the source's port, or the number that an echo bears, before anything is sent."""


class CallEnd(Enum):
    """It was answered, refused, taken and closed before any byte, not answered; a datagram was sent and not refused."""

    ANSWERED = "answered"
    REFUSED = "refused"
    CLOSED = "closed"
    SILENT = "silent"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class TrialCall:
    """From `source`, in the namespace at `pin`. A connection that was taken is held for `held` seconds: a proxy on the way may
    take each, and end what the other side refuses.
    """

    pin: Path
    source: IPv4Address
    to: IPv4Address
    protocol: str
    port: int
    held: float


@dataclass(frozen=True, slots=True)
class CallResult:
    """What became of it, after how long; `words` are the kernel's where it refused."""

    end: CallEnd
    milliseconds: float
    words: str = ""


def make(call: TrialCall, *, begun: Begun) -> CallResult:
    """Make it. Raises HostRefused where the namespace cannot be entered, or gives no socket."""
    kinds = {"tcp": _connect, "udp": _send, "icmp": _ping}
    with refused_as(f"cannot call from the namespace at {call.pin}"):
        return run_in(call.pin, lambda: kinds[call.protocol](call, begun))


def look_up(name: str, *, pin: Path, resolver: IPv4Address) -> tuple[IPv4Address, ...]:
    """What a resolver answers to a container that asks for the addresses of a name; nothing where it does not."""

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE)
            asking.connect((str(resolver), RESOLVER_PORT))
            asking.send(dns.message.make_query(name, dns.rdatatype.A).to_wire())
            return asking.recv(65_535)

    try:
        answer = dns.message.from_wire(run_in(pin, ask))
    except (OSError, dns.exception.DNSException):
        return ()
    found = (each for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A for each in rrset)
    return tuple(IPv4Address(each.to_text()) for each in found)


def _connect(call: TrialCall, begun: Begun) -> CallResult:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as calling:
        started = _bound(calling, call, begun)
        number = calling.connect_ex((str(call.to), call.port))
        if number == errno.EINPROGRESS:
            if not _waits(calling, select.POLLOUT, PATIENCE):
                return _result(CallEnd.SILENT, started)
            number = calling.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            return _failed(number, started)
        answered = _result(CallEnd.ANSWERED, started)
        if not _waits(calling, select.POLLIN, call.held):
            return answered
        try:
            return answered if calling.recv(1) else _result(CallEnd.CLOSED, started)
        except OSError as error:
            return _result(CallEnd.CLOSED, started, error)


def _send(call: TrialCall, begun: Begun) -> CallResult:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sending:
        started = _bound(sending, call, begun)
        try:
            sending.connect((str(call.to), call.port))
            sending.send(b"")
            if _waits(sending, select.POLLIN, ANSWER_TO_DATAGRAM):
                sending.recv(1)
                return _result(CallEnd.ANSWERED, started)
        except OSError as error:
            return _failed(error.errno or 0, started)
        return _result(CallEnd.SENT, started)


def _ping(call: TrialCall, begun: Begun) -> CallResult:
    number, started = os.getpid() & 0xFFFF, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP) as asking:
        try:
            asking.bind((str(call.source), 0))
            begun(number)
            asking.sendto(_echo(number), (str(call.to), 0))
        except OSError as error:
            return _failed(error.errno or 0, started)
        while (left := started + PATIENCE - time.monotonic()) > 0 and _waits(asking, select.POLLIN, left):
            packet, (sender, _) = asking.recvfrom(1_500)
            message = packet[(packet[0] & 15) * 4 :]
            if message[:1] == bytes([ECHO_ANSWER]) and (sender, message[4:6]) == (str(call.to), struct.pack(">H", number)):
                return _result(CallEnd.ANSWERED, started)
            if message[:1] == b"\x03" and call.to.packed in message[8:28]:
                return _result(CallEnd.REFUSED, started)
    return _result(CallEnd.SILENT, started)


def _echo(number: int) -> bytes:
    head = struct.pack(">BBHHH", ECHO, 0, 0, number, 1)
    total = sum(struct.unpack(">4H", head))
    return struct.pack(">BBHHH", ECHO, 0, ~(total + (total >> 16)) & 0xFFFF, number, 1)


def _bound(made: socket.socket, call: TrialCall, begun: Begun) -> float:
    made.bind((str(call.source), 0))
    begun(made.getsockname()[1])
    return time.monotonic()


def _waits(made: socket.socket, event: int, seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(made, event)
    return bool(waiting.poll(seconds * 1000))


def _failed(number: int, started: float) -> CallResult:
    error = OSError(number, os.strerror(number))
    return _result(CallEnd.REFUSED if number in REFUSALS else CallEnd.SILENT, started, error)


def _result(end: CallEnd, started: float, error: OSError | None = None) -> CallResult:
    words = "" if error is None else error.strerror or ""
    return CallResult(end, (time.monotonic() - started) * 1000, words)
