"""What the hop takes from the outside: of the answer to its own question the addresses that the name itself leads to. Forged
answers are in tests/hostile.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from dataplane.dns.hop import name_servers
from dataplane.dns.hop.messages import MOST, FoundAddresses, accepted, addresses_in, query_for
from dataplane.dns.hop.name_servers import servers_in
from tests.testlib.dns.hop_questions import FORGED, NAME, RIGHT, SERVER, addresses, asked
from tests.testlib.dns.scripted_server import ScriptedDns, scripted_dns
from tests.testlib.netns import Netns
from tests.testlib.node import Node


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
