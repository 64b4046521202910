"""Conversations with a kernel whose part a socket plays: what the real one does too seldom to wait for."""

import errno
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from host.errors import HostRefused
from host.netlink.messages import HEADER, NLM_F_ACK, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, attribute, attributes, nested
from host.netlink.socket import ROUNDS, NetlinkSocket, Request, vanished

Ends = tuple[NetlinkSocket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    there.settimeout(5)
    with NetlinkSocket(here) as link, there:
        yield link, there


def message(kind: int, number: int, body: bytes, *, flags: int = 0) -> bytes:
    return HEADER.pack(16 + len(body), kind, flags, number, 0) + body + bytes(-len(body) % 4)


def answer(there: socket.socket, *dumps: int) -> threading.Thread:
    """Answer each request for a dump with an entry; the dump's marks are given, one number each."""

    def serve() -> None:
        for flags in dumps:
            _, _, _, number, _ = HEADER.unpack_from(there.recv(4096))
            there.send(message(20, number - 1, b"stale") + message(20, number, b"from", flags=flags))
            there.send(message(20, number, str(flags).encode().ljust(4)) + message(NLMSG_DONE, number, bytes(4)))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_dump_is_everything_that_answers_it_and_nothing_of_an_earlier_one(ends: Ends) -> None:
    link, there = ends
    answer(there, 0)
    assert link.dump(1, b"", what="things") == [b"from", b"0   "]


def test_an_interrupted_dump_is_repeated(ends: Ends) -> None:
    link, there = ends
    answer(there, NLM_F_DUMP_INTR, NLM_F_DUMP_INTR, 0)
    assert link.dump(1, b"", what="things") == [b"from", b"0   "]


def test_a_dump_that_is_interrupted_for_ever_is_given_up(ends: Ends) -> None:
    link, there = ends
    thread = answer(there, *[NLM_F_DUMP_INTR] * ROUNDS)
    with pytest.raises(HostRefused, match="things"):
        link.dump(1, b"", what="things")
    thread.join(5)
    assert not thread.is_alive()


def test_a_refused_dump_names_what_was_asked_for(ends: Ends) -> None:
    link, there = ends
    there.send(message(NLMSG_ERROR, 1, struct.pack("=i", -errno.EPERM)))
    with pytest.raises(HostRefused, match="cannot list things: Operation not permitted"):
        link.dump(1, b"", what="things")


def test_answers_come_back_in_the_order_of_their_requests(ends: Ends) -> None:
    link, there = ends
    refusal = struct.pack("=i", -errno.ENOENT)
    there.send(message(20, 3, b"third") + message(NLMSG_ERROR, 2, refusal) + message(NLMSG_ERROR, 1, bytes(4)))
    first, second, third = link.ask(9, [b"", b"", b""])
    assert (first, third) == (b"", b"third")
    assert vanished(second)


def test_attributes_are_read_as_they_were_written() -> None:
    body = attribute(1, b"abcde") + nested(2, attribute(3, b"x"), attribute(4, b""))
    assert len(body) % 4 == 0
    (first, a, b), (second, c, d) = attributes(body)
    assert (first, body[a:b], second) == (1, b"abcde", 2)
    assert [(kind, body[c:d][e:f]) for kind, e, f in attributes(body[c:d])] == [(3, b"x"), (4, b"")]


def test_a_dump_that_is_longer_than_expected_is_given_up(ends: Ends) -> None:
    link, there = ends
    entries = b"".join(message(20, 1, bytes(4)) for _ in range(3))
    there.send(entries)
    there.send(entries)  # and no end: a kernel would go on for as long as it is read
    assert len(link.dump(1, b"", what="things", most=5)) == 6


def test_a_batch_is_done_when_its_last_acknowledgement_is_there(ends: Ends) -> None:
    link, there = ends
    there.send(message(NLMSG_ERROR, 3, bytes(4)))
    link.batch([Request(16, b"", 0), Request(1, bytes(4), 0), Request(2, bytes(8), NLM_F_ACK), Request(17, b"", 0)])
    sent = there.recv(4096)
    kinds = []
    while sent:
        length, kind, *_ = HEADER.unpack_from(sent)
        kinds.append(kind)
        sent = sent[length:]
    assert kinds == [16, 1, 2, 17]


@pytest.mark.parametrize("number", [1, 2, 3], ids=["the beginning", "a request", "the last"])
def test_a_refused_batch_raises_the_first_refusal(ends: Ends, number: int) -> None:
    link, there = ends
    answers = [message(NLMSG_ERROR, number, struct.pack("=i", -errno.EPERM))]
    if number == 2:
        answers.append(message(NLMSG_ERROR, 3, struct.pack("=i", -errno.ENOENT)))
    for each in answers:
        there.send(each)
    with pytest.raises(PermissionError):
        link.batch([Request(16, b"", 0), Request(1, b"", 0), Request(2, b"", NLM_F_ACK), Request(17, b"", 0)])
