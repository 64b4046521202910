"""The one door to netlink: requests with one answer each, dumps, and events of groups.

Messages are made and read by hand, since a dump of 10,000 connections has to be read in a few milliseconds. A socket belongs
to the namespace of the thread that makes it and must be used by one thread at a time.
"""

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from host.errors import HostRefused
from host.netlink.messages import HEADER, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_CAP_ACK = 270, 1, 10
SO_SNDBUFFORCE = 32  # of Linux
ERROR = struct.Struct("=i")

RECEIVE = 1 << 17  # more than the kernel puts into one message of a dump
ONE_ANSWER = 1 << 12  # more than one answer has
BATCH = 32  # the answers to one batch must fit the socket's receive buffer, else some are lost
SENDABLE = 1 << 16  # that much fits the send buffer that a socket has from the start
ROUNDS = 5  # of a dump that the kernel calls interrupted

Message = tuple[int, int, int, bytes]  # type, flags, sequence number, body


class Request(NamedTuple):
    """One of a batch."""

    kind: int
    body: bytes
    flags: int


def connect(protocol: int) -> "NetlinkSocket":
    """A socket to the part of the kernel that `protocol`, a NETLINK_… number, names."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    made.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)  # an acknowledgement need not repeat the request
    return NetlinkSocket(made)


def subscribe(protocol: int, groups: Sequence[int]) -> socket.socket:
    """A socket on which the events of these groups arrive. It never blocks; a group that the kernel lacks is left out."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    made.bind((0, 0))
    for group in groups:
        with suppress(OSError):
            made.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return made


class NetlinkSocket:
    """Requests and dumps over an open socket, which it owns. Close it, or use it as a context."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._numbers = itertools.count(1)

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def ask(self, kind: int, bodies: Sequence[bytes], *, flags: int = 0) -> list[bytes | OSError]:
        """Send one request of type `kind` for each body and return the answers in the same order.

        An answer is the body of the message that came back, b"" for an acknowledgement, or the kernel's refusal. Requests that
        are answered by nothing but an acknowledgement need NLM_F_ACK in `flags`; the others must not have it.
        """
        answers: list[bytes | OSError] = []
        for start in range(0, len(bodies), BATCH):
            answers += self._ask(kind, bodies[start : start + BATCH], flags=flags)
        return answers

    def _ask(self, kind: int, bodies: Sequence[bytes], *, flags: int) -> list[bytes | OSError]:
        requests = {next(self._numbers): body for body in bodies}
        self._socket.send(b"".join(_request(kind, body, number, flags=flags) for number, body in requests.items()))
        answers: dict[int, bytes | OSError] = {}
        while len(answers) < len(requests):
            for answer, _, number, body in _messages(self._socket.recv(RECEIVE)):
                if number not in requests:
                    continue  # the rest of a dump that was given up
                answers[number] = _refusal(body) or b"" if answer == NLMSG_ERROR else body
        return [answers[number] for number in requests]

    def ask_again(self, request: bytes) -> bytes | OSError:
        """The answer to one request of `prepared`, as `ask` has it, in half of its time: for what is asked without end."""
        self._socket.send(request)
        answer, _, _, body = next(_messages(self._socket.recv(ONE_ANSWER)))
        return _refusal(body) or b"" if answer == NLMSG_ERROR else body

    def batch(self, requests: Sequence[Request]) -> None:
        """Send requests that the kernel fulfils together or not at all: the first begins the batch, the last ends it.

        One of them at least must have NLM_F_ACK: the last that has is waited for. Raises OSError, the first refusal.
        """
        numbers = list(itertools.islice(self._numbers, len(requests)))
        message = b"".join(
            _request(each.kind, each.body, number, flags=each.flags) for each, number in zip(requests, numbers, strict=True)
        )
        if len(message) > SENDABLE:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(message))
        self._socket.send(message)
        awaited = [number for each, number in zip(requests, numbers, strict=True) if each.flags & NLM_F_ACK][-1]
        answers: dict[int, OSError | None] = {}
        while awaited not in answers and numbers[0] not in answers:  # the first is refused in the name of all
            for _, _, number, body in _messages(self._socket.recv(RECEIVE)):
                answers[number] = _refusal(body)
        for refusal in filter(None, answers.values()):
            raise refusal

    def dump(self, kind: int, body: bytes, *, what: str, most: int | None = None) -> list[bytes]:
        """All answers of a dump, one body each. A dump that was interrupted is repeated.

        One of more than `most` answers is given up: some more than `most` are returned, and the socket is of no use any more.
        Raises HostRefused when the kernel refuses (`what` names what was asked for) or never gets through undisturbed.
        """
        for _ in range(ROUNDS):
            try:
                bodies, interrupted = self._dump(kind, body, most=most)
            except OSError as error:
                hint = "cellnet needs root, and a kernel with conntrack and socket diagnosis over netlink"
                raise HostRefused(f"cannot list {what}: {error.strerror}", hint=hint) from error
            if not interrupted:  # else entries may be missing, or there twice
                return bodies
        raise HostRefused(f"cannot list {what}: it changed during each of {ROUNDS} attempts", hint="try again")

    def _dump(self, kind: int, body: bytes, *, most: int | None) -> tuple[list[bytes], bool]:
        number = next(self._numbers)
        self._socket.send(_request(kind, body, number, flags=NLM_F_DUMP))
        bodies: list[bytes] = []
        marks = 0
        while True:
            for answer, flags, of, content in _messages(self._socket.recv(RECEIVE)):
                if of != number:
                    continue  # as above
                marks |= flags
                if answer in (NLMSG_ERROR, NLMSG_DONE):
                    if refusal := _refusal(content):
                        raise refusal
                    return bodies, bool(marks & NLM_F_DUMP_INTR)
                bodies.append(content)
            if most is not None and len(bodies) > most:
                return bodies, False


def prepared(kind: int, body: bytes) -> bytes:
    """A request for `ask_again`."""
    return _request(kind, body, 0, flags=0)


def _request(kind: int, body: bytes, number: int, *, flags: int) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, number, 0) + body


def _messages(received: bytes) -> Iterator[Message]:
    offset, end, unpack, header = 0, len(received), HEADER.unpack_from, HEADER.size
    while offset + header <= end:
        length, kind, flags, number, _ = unpack(received, offset)
        yield kind, flags, number, received[offset + header : offset + length]
        offset += (length + 3) & ~3


def _refusal(body: bytes) -> OSError | None:
    number = -ERROR.unpack_from(body)[0] if len(body) >= ERROR.size else 0
    return OSError(number, os.strerror(number)) if number else None


def vanished(answer: bytes | OSError) -> bool:
    """Whether a request failed only because what it named is gone: nothing, or another, is there now."""
    return isinstance(answer, OSError) and answer.errno in (errno.ENOENT, errno.ESTALE)
