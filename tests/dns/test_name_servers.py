"""What the hop takes from the outside: the answer to its own question, from the name server that it has asked, and of that the
addresses that the name itself leads to.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from dataplane.dns.hop import name_servers
from dataplane.dns.hop.messages import MOST, FoundAddresses, accepted, addresses_in, query_for
from dataplane.dns.hop.name_servers import NameServers, servers_in
from host.namespace import run_in
from tests.testlib.netns import Netns
from tests.testlib.node import Node
from tests.testlib.scripted_dns import ScriptedDns, scripted_dns

NAME, RIGHT, FORGED = "api.example.com", "192.0.2.1", "198.51.100.66"
SERVER, ELSEWHERE = IPv4Address("127.0.0.53"), IPv4Address("127.0.0.66")


@pytest.fixture
def place(netns: Callable[[str], Netns]) -> Node:
    """A namespace of its own."""
    made = netns("names")
    made.run("ip", "link", "set", "lo", "up")
    return Node(made.path, address=SERVER)


@pytest.fixture
def server(place: Node) -> Iterator[ScriptedDns]:
    """Knows NAME."""
    with scripted_dns(place, at=SERVER) as made:
        made.records = {NAME: [f"A {RIGHT}"]}
        yield made


def asked(place: Node, tmp_path: Path, *names: str) -> list[FoundAddresses]:
    """What one hop hears, asked for all of these at once."""
    file = tmp_path / "upstreams"
    file.write_text(f"server={SERVER}#53\n")

    async def ask() -> list[FoundAddresses]:
        async with asyncio.TaskGroup() as tasks:
            servers = NameServers(file, tasks=tasks, clock=time.monotonic)
            return list(await asyncio.gather(*map(servers.addresses, names)))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: run_in(place.pin, lambda: asyncio.run(ask()))).result()


def addresses(found: FoundAddresses) -> list[str]:
    return list(map(str, found.addresses))


def forged(question: dns.message.Message, *, number: int = 0, name: str = NAME) -> bytes:
    """An answer to a question, with another number or another name."""
    made = dns.message.make_response(question)
    made.id = (question.id + number) % 0x10000
    if name != NAME:
        made.question[0].name = dns.name.from_text(name)
    made.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "A", FORGED))
    return made.to_wire()


def test_answers_of_another_number_or_to_another_question_are_passed_over(
    place: Node, server: ScriptedDns, tmp_path: Path
) -> None:
    def lie(question: dns.message.Message, at: socket.socket, caller: tuple[str, int]) -> None:
        for number in (1, -1, 0x8000):
            at.sendto(forged(question, number=number), caller)
        at.sendto(forged(question, name="other.example.com"), caller)
        at.sendto(b"\0" * 40, caller)
        question.flags &= ~dns.flags.QR
        at.sendto(question.to_wire(), caller)

    server.before = lie
    assert [addresses(each) for each in asked(place, tmp_path, NAME)] == [[RIGHT]]


@pytest.mark.parametrize(("source", "port"), [(ELSEWHERE, 53), (SERVER, 5353)])
def test_answers_from_elsewhere_are_passed_over(
    place: Node, server: ScriptedDns, tmp_path: Path, source: IPv4Address, port: int
) -> None:
    """The right number and name, from another address or another port."""

    def lie(question: dns.message.Message, _: socket.socket, caller: tuple[str, int]) -> None:
        with run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as liar:
            liar.bind((str(source), port))
            with suppress(OSError):
                liar.sendto(forged(question), caller)

    server.before = lie
    assert [addresses(each) for each in asked(place, tmp_path, NAME)] == [[RIGHT]]


def test_each_question_has_a_port_and_a_number_of_its_own(place: Node, server: ScriptedDns, tmp_path: Path) -> None:
    seen: set[tuple[int, int]] = set()
    server.before = lambda question, _, caller: seen.add((question.id, caller[1]))
    names = [f"n{number}.example.com" for number in range(40)]
    server.records = {name: [f"A {RIGHT}"] for name in names}
    assert all(addresses(each) == [RIGHT] for each in asked(place, tmp_path, *names))
    numbers, ports = zip(*seen, strict=True)
    assert len(set(ports)) == 40
    assert len(set(numbers)) >= 38
    assert sorted(ports) not in ([*range(min(ports), min(ports) + 40)], [*range(min(ports), min(ports) + 80, 2)])


def test_a_name_that_many_ask_for_at_once_is_asked_for_once_and_its_answer_kept(
    place: Node, server: ScriptedDns, tmp_path: Path
) -> None:
    assert all(addresses(each) == [RIGHT] for each in asked(place, tmp_path, *[NAME] * 100))
    assert server.asked == [NAME]


def test_what_is_cut_short_is_asked_for_over_tcp_and_is_taken_up_to_a_bound(
    place: Node, server: ScriptedDns, tmp_path: Path
) -> None:
    every = [f"198.18.{number // 250}.{number % 250}" for number in range(600)]
    server.records = {NAME: [f"A {each}" for each in every]}
    (found,) = asked(place, tmp_path, NAME)
    assert len(found.addresses) == MOST
    assert set(addresses(found)) < set(every)


def test_a_server_that_is_silent_is_an_error(
    place: Node, server: ScriptedDns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_servers, "PATIENCE", 0.1)
    server.silent = True
    (found,) = asked(place, tmp_path, NAME)
    assert (found.code, found.addresses) == (dns.rcode.SERVFAIL, ())


def test_records_beside_the_way_from_the_name_to_its_addresses_are_not_taken() -> None:
    query = query_for(NAME)
    said = dns.message.make_response(query)
    for owner, kind, value in (
        ("other.example.com.", "A", FORGED),
        (f"{NAME}.", "CNAME", "a.cdn.example."),
        ("a.cdn.example.", "A", RIGHT),
        ("b.cdn.example.", "A", FORGED),
    ):
        said.answer.append(dns.rrset.from_text(owner, 30, "IN", kind, value))
    said.additional.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "A", FORGED))
    found = accepted(said.to_wire(), query)
    assert found is not None
    assert addresses_in(found, query) == FoundAddresses((IPv4Address(RIGHT),), 30)


def test_aliases_that_lead_to_themselves_lead_nowhere() -> None:
    query = query_for(NAME)
    said = dns.message.make_response(query)
    said.answer.append(dns.rrset.from_text(f"{NAME}.", 30, "IN", "CNAME", "b.example.com."))
    said.answer.append(dns.rrset.from_text("b.example.com.", 30, "IN", "CNAME", f"{NAME}."))
    assert addresses_in(said, query).addresses == ()


def test_servers_are_read_as_dnsmasq_reads_them() -> None:
    text = "server=192.0.2.53#53\nserver=2001:db8::53#5353\n"
    assert [(str(address), port) for address, port in servers_in(text)] == [("192.0.2.53", 53), ("2001:db8::53", 5353)]
