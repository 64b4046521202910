"""Forged answers to what the hop asks the outside: what stops them is its own code, which runs in the test's process here."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rrset
import pytest

from dataplane.dns.hop.messages import FoundAddresses, accepted
from dataplane.dns.hop.name_servers import Server
from host.namespace import run_in
from tests.testlib.attacks.attacker import withstood
from tests.testlib.dns.hop_questions import FORGED, NAME, RIGHT, SERVER, addresses, asked, forged
from tests.testlib.dns.scripted_server import ScriptedDns, scripted_dns
from tests.testlib.mutation import Code, Ground, perhaps_mutated, stopped_by
from tests.testlib.netns import Netns
from tests.testlib.node import Node

ELSEWHERE = IPv4Address("127.0.0.66")
MODULE = "dataplane.dns.hop.name_servers"


def whatever_it_answers(wire: bytes, _query: dns.message.Message) -> dns.message.Message | None:
    """In place of `accepted`."""
    try:
        return dns.message.from_wire(wire, ignore_trailing=True)
    except dns.exception.DNSException:
        return None


async def from_anybody(server: Server, query: dns.message.QueryMessage) -> dns.message.Message:
    """In place of a question by a socket that hears the name server alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
        asking.sendto(query.to_wire(), (str(server[0]), server[1]))
        while True:
            found = accepted(await asyncio.get_running_loop().sock_recv(asking, 65_535), query)
            if found is not None:
                return found


def all_that_it_says(found: dns.message.Message, _query: dns.message.Message) -> FoundAddresses:
    """In place of `addresses_in`."""
    records = (record for each in found.answer if each.rdtype == dns.rdatatype.A for record in each)
    return FoundAddresses(tuple(IPv4Address(str(each)) for each in records), 60)


ANSWERS = Code(MODULE, "accepted", whatever_it_answers, "what answers another question is passed over")
FROM = Code(MODULE, "_over_udp", from_anybody, "only the name server that was asked is heard")
RECORDS = Code(MODULE, "addresses_in", all_that_it_says, "only what the name itself leads to is taken")


@pytest.fixture
def place(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[Node]:
    """A namespace of its own; the hop as it should be, or without what stops the test's attack."""
    made = netns("forged")
    made.run("ip", "link", "set", "lo", "up")
    node = Node(made.path, address=SERVER)
    with perhaps_mutated(Ground(node, "nft", {}), request):
        yield node


@pytest.fixture
def server(place: Node) -> Iterator[ScriptedDns]:
    """Knows NAME."""
    with scripted_dns(place, at=SERVER) as made:
        made.records = {NAME: [f"A {RIGHT}"]}
        yield made


def no_answer(question: dns.message.Message) -> bytes:
    """The question itself, with an address in it."""
    made = dns.message.from_wire(forged(question))
    made.flags &= ~dns.flags.QR
    return made.to_wire()


@pytest.mark.parametrize(
    "lie",
    [
        lambda question: forged(question, number=1),
        lambda question: forged(question, number=-1),
        lambda question: forged(question, number=0x8000),
        lambda question: forged(question, name="other.example.com"),
        no_answer,
        lambda _: b"\0" * 40,
    ],
    ids=["the next number", "the number before", "another half of numbers", "another name", "no answer", "nothing"],
)
@stopped_by(ANSWERS)
def test_an_answer_of_another_number_or_to_another_question_is_passed_over(
    place: Node, server: ScriptedDns, tmp_path: Path, lie: Callable[[dns.message.Message], bytes]
) -> None:
    """From the name server's own address and port, and before it."""
    server.before = lambda question, at, caller: (at.sendto(lie(question), caller), None)[1]
    (found,) = asked(place, tmp_path, NAME)
    withstood(it=addresses(found) == [RIGHT], what=f"{found}")


@pytest.mark.parametrize(("source", "port"), [(ELSEWHERE, 53), (SERVER, 5353)], ids=["another address", "another port"])
@stopped_by(FROM)
def test_an_answer_from_elsewhere_is_passed_over(
    place: Node, server: ScriptedDns, tmp_path: Path, source: IPv4Address, port: int
) -> None:
    """With the right number and name."""

    def lie(question: dns.message.Message, _: socket.socket, caller: tuple[str, int]) -> None:
        with run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as liar:
            liar.bind((str(source), port))
            with suppress(OSError):
                liar.sendto(forged(question), caller)

    server.before = lie
    (found,) = asked(place, tmp_path, NAME)
    withstood(it=addresses(found) == [RIGHT], what=f"{found}")


@stopped_by(RECORDS)
def test_what_a_name_server_says_besides_is_not_taken(place: Node, server: ScriptedDns, tmp_path: Path) -> None:
    def lie(question: dns.message.Message, at: socket.socket, caller: tuple[str, int]) -> None:
        said = dns.message.make_response(question)
        for owner, value in ((NAME, RIGHT), ("other.example.com", FORGED)):
            said.answer.append(dns.rrset.from_text(f"{owner}.", 60, "IN", "A", value))
        at.sendto(said.to_wire(), caller)

    server.before = lie
    (found,) = asked(place, tmp_path, NAME)
    withstood(it=addresses(found) == [RIGHT], what=f"{found}")
