"""Many names and networks outside on one cell: all are open while they hold, and what is open already pays nothing for them."""

import itertools
import json
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from dataplane.firewall.outside_matches import name_set
from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive
from tests.testlib.dns.client import ask
from tests.testlib.dns.scripted_server import ScriptedDns, scripted_dns
from tests.testlib.node import Connected, Node, Refused, pair
from tests.testlib.outside import served
from tests.testlib.patience import eventually
from tests.testlib.status import is_well

FILE, BELOW = "hosts.yaml", "*.example.org"
MANY, EACH = 2_000, 400  # names in all, and what one container may ask at once
LONG = 300  # seconds


@pytest.fixture(scope="module")
def cell_overrides() -> tuple[str, ...]:
    return ("firewall.backend=nft", f"dns.upstreams=['{OUTSIDE.ip}']")


@pytest.fixture
def dns_outside(cell: CellUnderTest) -> Iterator[ScriptedDns]:
    with served(cell.outside, tcp=(443,)), scripted_dns(cell.outside, at=OUTSIDE.ip) as made:
        made.seconds = LONG
        yield made


def times(cell: CellUnderTest, name: str) -> dict[str, int]:
    """For how many seconds the kernel has each address of a set of names open."""
    lines = cell.host.run("ipset", "list", name).partition("Members:")[2].splitlines()
    return {words[0]: int(words[2]) for words in (line.split() for line in lines) if words}


def address_of(number: int) -> str:
    return f"198.18.{16 + number // 250}.{1 + number % 250}"


def test_an_address_is_open_for_as_long_as_its_answer_says(cell: CellUnderTest, dns_outside: ScriptedDns) -> None:
    """In the kernel and for the app, and no less where an answer is kept."""
    name = "long.example.org"
    dns_outside.records = {name: ["A 198.18.9.1"]}
    web, api = cell.run_app("acme/shop/web"), cell.run_app("acme/shop/api")
    cell.policy_file(FILE, json.dumps({"policies": [{"from": "acme/shop/*", "to": {"host": BELOW}, "tcp": 443}]}))
    for app in (web, api):
        (record,) = ask(app, name).records
        (left,) = times(cell, name_set((BELOW,))).values()
        assert LONG - 60 < record.seconds <= left + 1 <= LONG + 1, "the kernel shows whole seconds"
    assert len(dns_outside.asked) == 1, "the second answer is a kept one"


def test_two_thousand_names_that_are_in_use_are_open_and_outlive_the_agent(
    cell: CellUnderTest, dns_outside: ScriptedDns
) -> None:
    names = {f"n{number}.example.org": address_of(number) for number in range(MANY)}
    dns_outside.records = {name: [f"A {address}"] for name, address in names.items()}
    apps = [cell.run_app("acme/many/app", name=f"app-{number}") for number in range(MANY // EACH)]
    cell.policy_file(FILE, json.dumps({"policies": [{"from": "acme/many/app", "to": {"host": BELOW}, "tcp": 443}]}))
    asked = iter(names.items())
    for app in apps:
        for name, address in itertools.islice(asked, EACH):
            assert ask(app, name).addresses == [address]
    assert times(cell, name_set((BELOW,))).keys() >= set(names.values())
    assert all(apps[number % len(apps)].connect(address_of(number), 443) is Connected for number in range(0, MANY, 97))
    assert apps[0].connect(address_of(MANY), 443) is Refused
    cell.kill("agent")
    cell.start()
    assert int(cell.status().at("hosts").text("known")) >= MANY
    eventually(lambda: is_well(cell))
    assert apps[0].connect(address_of(MANY - 1), 443) is Connected


def test_five_hundred_names_and_a_thousand_networks_are_there_at_once_and_open_connections_see_none_of_their_rules(
    cell: CellUnderTest, dns_outside: ScriptedDns
) -> None:
    names = [f"n{number}.example.net" for number in range(500)]
    networks = [f"198.19.{number // 64}.{4 * (number % 64)}/31" for number in range(1_000)]
    dns_outside.records = {names[10]: ["A 198.18.9.2"]}
    rules: list[dict[str, object]] = []
    for number in range(50):
        app = f"acme/many/app-{number}"
        rules.append({"from": app, "to": {"host": names[10 * number : 10 * number + 10]}, "tcp": [443, 5000]})
        rules.append({"from": app, "to": {"cidr": networks[20 * number : 20 * number + 20]}, "tcp": [443, 5000]})
    web = cell.run_app("acme/many/app-1", name="app-1")
    cell.policy_file(FILE, json.dumps({"policies": rules}))
    assert ask(web, names[10]).addresses == ["198.18.9.2"]
    addresses = ("198.18.9.2", networks[20].partition("/")[0])
    opened = [pair(web, Node(cell.outside.pin, address=IPv4Address(each)), 5000) for each in addresses]
    before = judged(cell)
    assert all(is_alive(*ends) for _ in range(50) for ends in opened)
    assert judged(cell) == before


def judged(cell: CellUnderTest) -> list[str]:
    """How many packets each rule has seen that judges what is new."""
    saved = cell.host.run("iptables-nft-save", "-c", "-t", "filter").splitlines()
    return [line for line in saved if any(f"-A {chain}" in line for chain in ("CELLNET-NEW", "CELLNET-EGRESS", "CELLNET-OUT"))]
