"""What policies let out of the overlay by names of hosts: an app reaches what its resolver has answered, and nothing else."""

import itertools
import json
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import dns.edns
import dns.message
import dns.rdatatype
import pytest

from lab.cell import Cell, Part
from lab.segment import OUTSIDE
from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.dns.client import Code, Kind, answer, ask, ask_once, ask_over_tcp, exchange
from tests.testlib.dns.scripted_server import ScriptedDns, scripted_dns
from tests.testlib.explained import explained
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Node, Refused, pair
from tests.testlib.outside import served
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
FILE = "hosts.yaml"
BACKENDS = ("nft", "legacy")
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Remote:
    """A host outside of one test: what is known of a name is known for minutes."""

    name: str
    address: str
    other: str


@contextmanager
def scene(backend: str, *, kind: type[Cell] = Cell) -> Iterator[tuple[CellUnderTest, ScriptedDns]]:
    """A cell and its name server outside."""
    with (
        running_cell(f"firewall.backend={backend}", f"dns.upstreams=['{OUTSIDE.ip}']", kind=kind) as made,
        served(made.outside, tcp=(443, 8443)),
        scripted_dns(made.outside, at=OUTSIDE.ip) as dns,
    ):
        yield made, dns


@pytest.fixture(scope="module", params=BACKENDS)
def kept(request: pytest.FixtureRequest) -> Iterator[tuple[CellUnderTest, ScriptedDns]]:
    with scene(str(request.param)) as made:
        yield made


@pytest.fixture
def far() -> Remote:
    number = next(_numbers)
    return Remote(f"api.n{number}.example.com", f"198.18.100.{number}", f"198.18.200.{number}")


@pytest.fixture
def dns_outside(kept: tuple[CellUnderTest, ScriptedDns], far: Remote) -> ScriptedDns:
    """The name server of the outside, which knows the name; its answers hold for a second."""
    made = kept[1]
    made.records, made.seconds, made.silent = {far.name: [f"A {far.address}"]}, 1, False
    made.asked.clear()
    made.options.clear()
    return made


@pytest.fixture
def cell(kept: tuple[CellUnderTest, ScriptedDns], dns_outside: ScriptedDns) -> Iterator[CellUnderTest]:
    """With no apps and no policies; what is outside answers."""
    del dns_outside
    yield kept[0]
    kept[0].tidy()


once = pytest.mark.parametrize("kept", ["nft"], indirect=True)  # where the rules are those that other tests try on both


def policy(source: str, *hosts: str, tcp: Sequence[int] = (443, 5000)) -> dict[str, object]:
    return {"from": source, "to": {"host": list(hosts)}, "tcp": list(tcp)}


def allow(cell: CellUnderTest, *rules: dict[str, object]) -> None:
    cell.policy_file(FILE, json.dumps({"policies": rules}))


def outside(cell: CellUnderTest, address: str) -> Node:
    return Node(cell.outside.pin, address=IPv4Address(address))


def members(cell: CellUnderTest) -> set[str]:
    """All addresses in sets of names."""
    lines = [line for name in sets(cell) for line in cell.host.run("ipset", "list", name).partition("Members:")[2].splitlines()]
    return {line.split()[0] for line in lines if line}


def sets(cell: CellUnderTest) -> list[str]:
    """The sets of names."""
    return [each for each in cell.host.run("ipset", "list", "-n").split() if each.startswith("cellnet-name-")]


def test_an_app_reaches_the_host_that_its_policy_names_as_soon_as_it_has_asked(cell: CellUnderTest, far: Remote) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    allow(cell, policy(WEB, far.name))
    assert web.connect(far.address, 443) is Refused, "nothing has asked for it"
    assert "which may be the same: ask by name" in explained(cell, WEB, far.address, "tcp/443")
    assert ask(web, far.name).addresses == [far.address]
    assert web.connect(far.address, 443) is Connected
    assert f"{far.address} is {far.name}, as the resolver" in explained(cell, WEB, far.address, "tcp/443")
    assert f"ok  address: {far.name} is {far.address}, as the resolver" in explained(cell, WEB, far.name, "tcp/443")
    assert web.connect(far.address, 8443) is Refused
    allow(cell, policy(WEB, far.name), {"from": WEB, "to": {"cidr": f"{far.address}/32"}, "tcp": 8443})
    assert explained(cell, WEB, far.name, "tcp/8443").endswith("it works"), "a policy opens the address that it is told"
    assert web.connect(far.other, 443) is Refused
    assert api.connect(far.address, 443) is Refused


@once
def test_an_app_that_asks_and_connects_at_once_is_never_refused(cell: CellUnderTest, dns_outside: ScriptedDns) -> None:
    web = cell.run_app(WEB)
    allow(cell, policy(WEB, "*.example.com"))
    dns_outside.records = {f"n{number}.example.com": [f"A 198.18.1.{number}"] for number in range(100)}
    for number in range(100):
        (address,) = ask(web, f"n{number}.example.com").addresses
        assert web.connect(address, 443) is Connected, number


@once
def test_only_names_of_policies_are_asked_of_the_outside_and_only_for_their_apps(
    cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote
) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    allow(cell, policy(WEB, far.name, "gone.example.com"))
    for over in (ask, ask_over_tcp):
        assert over(api, far.name).code is Code.NXDOMAIN
        assert over(web, "www.example.com").code is Code.NXDOMAIN
        assert over(web, "example.com").code is Code.NXDOMAIN
        assert over(web, f"{far.name}.evil.example").code is Code.NXDOMAIN
    assert dns_outside.asked == []
    for kind in (Kind.AAAA, Kind.HTTPS, Kind.TXT, Kind.ANY):
        found = ask(web, far.name, kind)
        assert (found.code, found.records) == (Code.NOERROR, ()), kind
    assert ask(web, "gone.example.com").code is Code.NXDOMAIN
    assert ask(web, far.name.upper()).addresses == [far.address]
    assert set(dns_outside.asked) == {far.name, "gone.example.com"}
    assert ask(api, far.name).code is Code.NXDOMAIN, "nothing has kept what another was told"
    assert dns_outside.options == [], "who asks is no matter of the outside's"


@once
def test_a_wildcard_is_all_names_below_and_not_the_name_itself(cell: CellUnderTest, dns_outside: ScriptedDns) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    allow(cell, policy(WEB, "*.example.org"), policy(API, "example.org"))
    dns_outside.records = {
        name: ["A 198.18.2.1"] for name in ("example.org", "a.example.org", "c.b.a.example.org", "evilexample.org")
    }
    assert ask(web, "example.org").code is Code.NXDOMAIN
    assert ask(web, "evilexample.org").code is Code.NXDOMAIN
    assert ask(api, "a.example.org").code is Code.NXDOMAIN
    assert ask(api, "example.org").addresses == ["198.18.2.1"]
    assert web.connect("198.18.2.1", 443) is Refused, "another app has asked for another name"
    assert ask(web, "c.b.a.example.org").addresses == ["198.18.2.1"]
    assert web.connect("198.18.2.1", 443) is Connected


@once
def test_aliases_are_followed_and_the_name_that_was_asked_for_decides(
    cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote
) -> None:
    web = cell.run_app(WEB)
    allow(cell, policy(WEB, far.name))
    dns_outside.records = {
        far.name: ["CNAME a.cdn.example"],
        "a.cdn.example": ["CNAME b.cdn.example"],
        "b.cdn.example": [f"A {far.other}"],
    }
    (record,) = ask(web, far.name).records
    assert (record.name, record.value) == (far.name, far.other)
    assert web.connect(far.other, 443) is Connected
    assert ask(web, "b.cdn.example").code is Code.NXDOMAIN


def test_a_name_of_five_hundred_addresses_comes_over_tcp_and_all_are_open(
    cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote
) -> None:
    web = cell.run_app(WEB)
    allow(cell, policy(WEB, far.name))
    addresses = [f"198.18.{4 + number // 250}.{number % 250}" for number in range(500)]
    dns_outside.records = {far.name: [f"A {each}" for each in addresses]}
    assert ask(web, far.name).truncated
    assert set(ask_over_tcp(web, far.name).addresses) == set(addresses)
    assert set(addresses) <= members(cell)
    assert all(web.connect(each, 443) is Connected for each in addresses[::50])


@once
@pytest.mark.parametrize("bad", ["10.255.9.9", "169.254.0.2", "169.254.169.254", "127.0.0.1", "0.0.0.0", "10.77.0.1",
                                 "224.0.0.1", "255.255.255.255", str(OUTSIDE.ip)])  # fmt: skip
def test_what_is_never_outside_is_none_of_a_names_addresses(
    cell: CellUnderTest, dns_outside: ScriptedDns, bad: str, far: Remote
) -> None:
    """Whatever its owner says. The last is this cell's name server."""
    web = cell.run_app(WEB)
    allow(cell, policy(WEB, far.name, tcp=(443, 53)))
    dns_outside.records = {far.name: [f"A {bad}", f"A {far.address}"]}
    assert ask(web, far.name).addresses == [far.address]
    dns_outside.records = {far.name: [f"A {bad}"]}
    eventually(lambda: ask(web, far.name).addresses == [])
    assert bad not in members(cell)


def test_the_end_of_a_policy_cuts_both_directions_and_what_another_name_allows_lives(
    cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote
) -> None:
    web = cell.run_app(WEB)
    allow(cell, policy(WEB, far.name, "*.example.org", tcp=(443, 5000, 5001)))
    dns_outside.records = {far.name: [f"A {far.address}"], "a.example.org": [f"A {far.other}"]}
    assert ask(web, far.name).addresses + ask(web, "a.example.org").addresses == [far.address, far.other]
    gone, ends = (pair(web, outside(cell, address), 5000 + number) for number, address in enumerate((far.address, far.other)))
    allow(cell, policy(WEB, "*.example.org", tcp=(443, 5000, 5001)))
    assert all(map(is_reset, gone))
    assert is_alive(*ends)
    assert (web.connect(far.address, 443), web.connect(far.other, 443)) == (Refused, Connected)
    cell.remove_policy_file(FILE)
    assert all(map(is_reset, ends))
    assert web.connect(far.other, 443) is Refused


def test_a_change_of_policy_restarts_nothing_and_loses_no_name(
    cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote
) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    before = [cell.lab.part(each) for each in (Part.DNS, Part.HOP)]
    allow(cell, policy(WEB, far.name))
    assert ask(web, far.name).addresses == [far.address]
    ends = pair(web, outside(cell, far.address), 5000)
    asked = len(dns_outside.asked)
    allow(cell, policy(WEB, far.name, "more.example.com", tcp=(443, 5000, 8443)), policy(API, far.name))
    assert is_alive(*ends)
    assert (web.connect(far.address, 443), web.connect(far.address, 8443), api.connect(far.address, 443)) == (Connected,) * 3
    assert len(dns_outside.asked) == asked
    assert [cell.lab.part(each) for each in (Part.DNS, Part.HOP)] == before


@once
def test_a_name_that_changes_its_address_keeps_its_connections(
    cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote
) -> None:
    web = cell.run_app(WEB)
    allow(cell, policy(WEB, far.name))
    assert ask(web, far.name).addresses == [far.address]
    ends = pair(web, outside(cell, far.address), 5000)
    dns_outside.records = {far.name: [f"A {far.other}"]}
    eventually(lambda: ask(web, far.name).addresses == [far.other])
    assert web.connect(far.other, 443) is Connected
    assert is_alive(*ends)


@once
@pytest.mark.parametrize("part", [Part.AGENT, Part.HOP, Part.DNS])  # all at once: test_in_trouble.py
def test_a_part_that_is_killed_costs_no_connection_and_no_name(
    cell: CellUnderTest, dns_outside: ScriptedDns, part: Part, far: Remote
) -> None:
    web = cell.run_app(WEB)
    dns_outside.seconds = 60
    allow(cell, policy(WEB, far.name))
    assert ask(web, far.name).addresses == [far.address]
    ends = pair(web, outside(cell, far.address), 5000)
    cell.kill(part.value)
    assert is_alive(*ends)
    assert web.connect(far.address, 443) is Connected
    if part is Part.AGENT:
        assert ask(web, far.name).addresses == [far.address], "what it has opened is open still"
        assert ask(web, "x.example.com").code is Code.SERVFAIL
    cell.start()
    assert is_alive(*ends)
    assert web.connect(far.address, 443) is Connected
    eventually(lambda: is_answered(web, far))


def is_answered(web: Instance, far: Remote) -> bool:
    try:
        return ask_once(web, far.name).addresses == [far.address]
    except OSError:
        return False


@once
def test_what_was_known_of_a_name_is_known_after_a_restart_with_other_policies(cell: CellUnderTest, far: Remote) -> None:
    web = cell.run_app(WEB)
    allow(cell, policy(WEB, far.name))
    assert ask(web, far.name).addresses == [far.address]
    ends = pair(web, outside(cell, far.address), 5000)
    cell.kill("agent")
    cell.policy_file(FILE, json.dumps({"policies": [policy(WEB, "*.example.com")]}), sync=False)
    cell.start()
    assert is_alive(*ends)
    assert web.connect(far.address, 443) is Connected


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_another_program_changes_in_a_set_is_mended(backend: str, far: Remote) -> None:
    with scene(backend, kind=VigilantCell) as (cell, dns_outside):
        dns_outside.records = {far.name: [f"A {far.address}"]}
        web = cell.run_app(WEB)
        allow(cell, policy(WEB, far.name))
        assert ask(web, far.name).addresses == [far.address]
        (name,) = sets(cell)
        cell.host.run("ipset", "flush", name)
        cell.host.run("ipset", "add", name, far.other)
        eventually(lambda: members(cell) == {far.address})
        eventually(lambda: any("addresses of names" in each.text("what") for each in cell.status().at("last_repairs").each()))


@once
def test_an_address_by_another_resolver_is_not_open(cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote) -> None:
    web = cell.run_app(WEB)
    elsewhere = IPv4Address("198.18.0.53")
    allow(cell, policy(WEB, far.name), {"from": WEB, "to": {"cidr": str(elsewhere)}, "udp": [53], "tcp": [53]})
    with scripted_dns(cell.outside, at=elsewhere) as other:
        other.records = {far.name: [f"A {far.other}"]}
        assert ask(web, far.name, at=elsewhere).addresses == [far.other]
    assert web.connect(far.other, 443) is Refused
    with pytest.raises(OSError, match=r"refused|timed out"):
        ask_once(web, far.name, at=OUTSIDE.ip)


@once
def test_a_container_cannot_ask_as_another(cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote) -> None:
    """By EDNS' client subnet, once or several times."""
    web, api = cell.run_app(WEB), cell.run_app(API)
    allow(cell, policy(WEB, far.name))
    for count in (1, 2):
        question = dns.message.make_query(far.name, dns.rdatatype.A, use_edns=0)
        question.use_edns(0, options=[dns.edns.ECSOption(str(web.address), 32)] * count)
        assert answer(exchange(api, question.to_wire())).code is Code.NXDOMAIN
        with api.dial("169.254.0.2", 53) as connection:
            wire = question.to_wire()
            connection.sendall(struct.pack("!H", len(wire)) + wire)
            (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
            assert answer(connection.recv(length, socket.MSG_WAITALL)).code is Code.NXDOMAIN
    assert dns_outside.asked == []


@once
def test_a_container_cannot_answer_in_place_of_the_resolver(cell: CellUnderTest, dns_outside: ScriptedDns, far: Remote) -> None:
    """What it says to itself opens nothing, nor does it reach the hop, whatever address it uses."""
    web = cell.run_app(WEB)
    allow(cell, policy(WEB, far.name))
    for address in ("127.157.0.2", "169.254.0.1"):
        with pytest.raises(OSError):
            ask_once(web, far.name, at=IPv4Address(address), seconds=0.5)
    web.run("ip", "addr", "add", "169.254.0.2/32", "dev", "lo")
    with scripted_dns(web, at=IPv4Address("169.254.0.2")) as forged:
        forged.records = {far.name: [f"A {far.other}"]}
        assert ask(web, far.name).addresses == [far.other]
    assert web.connect(far.other, 443) is Refused
    assert dns_outside.asked == []


def test_five_hundred_names_are_one_set_and_one_rule(cell: CellUnderTest, dns_outside: ScriptedDns) -> None:
    web = cell.run_app(WEB)
    names = [f"n{number}.example.com" for number in range(500)]
    dns_outside.records = {name: [f"A 198.18.8.{number % 250}"] for number, name in enumerate(names)}
    allow(cell, policy(WEB, *names))
    assert len(sets(cell)) == 1
    assert ask(web, names[499]).addresses == ["198.18.8.249"]
    assert web.connect("198.18.8.249", 443) is Connected


@once
def test_what_asks_the_outside_has_no_right_over_the_kernel(cell: CellUnderTest) -> None:
    hop = cell.lab.part(Part.HOP)
    assert hop is not None
    status = dict(line.split(":", 1) for line in Path(f"/proc/{hop.pid}/status").read_text().splitlines() if ":" in line)
    assert [int(status[f"Cap{each}"], 16) for each in ("Inh", "Prm", "Eff", "Amb")] == [0] * 4
    assert "0" not in status["Uid"].split()
    assert status["NoNewPrivs"].strip() == "1"


@once
def test_a_name_is_checked_like_an_address(cell: CellUnderTest, far: Remote) -> None:
    cell.run_app(WEB)
    allow(cell, {"name": "to-the-api", **policy(WEB, far.name)})
    assert "to-the-api" in cell.cellnet("policy", "check", WEB, far.name, "tcp/443").out
    cell.cellnet("policy", "check", WEB, far.name, "tcp/80", code=1)
    cell.cellnet("policy", "check", WEB, "www.example.com", "tcp/443", code=1)
    row = cell.status().at("hosts")
    assert row.flag("connected")
