"""What policies let out of the overlay, on the wire, on each backend: as long as they say it, and whatever happens."""

import json
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

import pytest

from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.engines.guest import guest_of
from tests.testlib.failures import foreign_change
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Node, Refused, pair
from tests.testlib.oracle import Rule
from tests.testlib.outside import passes, served
from tests.testlib.outside_tables import NETWORKS as RULES
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
FILE = "outside.yaml"


def policies(*rules: Rule) -> str:
    """A policy file; what is JSON is YAML."""
    return json.dumps({"policies": rules})


@pytest.fixture(scope="module", params=["nft", "legacy"])
def kept(request: pytest.FixtureRequest) -> Iterator[CellUnderTest]:
    with running_cell(f"firewall.backend={request.param}") as made, served(made.outside, tcp=(443,)):
        yield made


@pytest.fixture
def cell(kept: CellUnderTest) -> Iterator[CellUnderTest]:
    """With no apps and no policies; what is outside answers."""
    yield kept
    kept.tidy()


def apps(cell: CellUnderTest, *names: str) -> list[Instance]:
    return [cell.run_app(name, name=name.replace("/", "-")) for name in names]


def outside(cell: CellUnderTest, address: str) -> Node:
    """The host outside, known by one of its many addresses."""
    return Node(cell.outside.pin, address=IPv4Address(address))


def test_a_network_that_a_policy_loses_takes_its_connections_along(cell: CellUnderTest) -> None:
    (web,) = apps(cell, WEB)
    wide = {"from": WEB, "to": {"cidr": "198.18.0.0/16"}, "tcp": "any"}
    cell.policy_file(FILE, policies(wide))
    gone, stays = (
        pair(web, outside(cell, address), 5000 + number) for number, address in enumerate(("198.18.2.1", "198.18.3.1"))
    )
    cell.policy_file(FILE, policies({**wide, "to": {"cidr": "198.18.0.0/16", "except": "198.18.2.0/24"}}))
    assert is_reset(gone[0])
    assert is_reset(gone[1])
    assert is_alive(*stays)
    assert f"1 connection of {WEB} ({web.address}) to 198.18.2.1 tcp/5000" in cell.log
    cell.remove_policy_file(FILE)
    assert is_reset(stays[0])
    assert is_reset(stays[1])
    assert web.connect("198.18.3.1", 443) is Refused


def test_a_policy_of_the_store_lets_out_and_its_end_cuts(cell: CellUnderTest) -> None:
    (web,) = apps(cell, WEB)
    cell.cellnet("policy", "allow", WEB, "198.18.0.0/24", "tcp/5000", "icmp/echo", "--name", "out")
    ends = pair(web, outside(cell, "198.18.0.1"), 5000)
    assert web.ping("198.18.0.1") is Connected
    cell.cellnet("policy", "delete", "out")
    assert all(map(is_reset, ends))
    assert web.ping("198.18.0.1") is Refused


def test_what_another_program_has_flushed_is_repaired_and_what_got_out_meanwhile_is_cut(cell: CellUnderTest) -> None:
    (api,) = apps(cell, API)
    cell.policy_file(FILE, policies(*RULES))
    backend = cell.status().at("firewall").text("backend")
    cell.host.run(f"iptables-{backend}", "-I", "CELLNET-EGRESS", "-j", "ACCEPT")
    ends = pair(api, outside(cell, "198.18.200.1"), 5000)
    kept = pair(api, outside(cell, "198.19.0.1"), 5001)
    foreign_change(cell.host)
    rules = (f"iptables-{backend}", "-S", "CELLNET-EGRESS")
    eventually(lambda: "-A CELLNET-EGRESS -j ACCEPT" not in cell.host.run(*rules).splitlines())
    assert all(map(is_reset, ends))
    assert is_alive(*kept)
    names = [each for each in cell.host.run("ipset", "list", "-n").split() if each.startswith("cellnet-out-")]
    cell.host.run("ipset", "flush", names[0])
    foreign_change(cell.host)
    eventually(lambda: passes(api, "198.19.0.1", "tcp", 443))


def test_another_engines_containers_are_not_asked_for_a_policy_and_its_rules_stay(cell: CellUnderTest) -> None:
    (web,) = apps(cell, WEB)
    backend = cell.status().at("firewall").text("backend")
    with guest_of(cell) as guest:
        published = ("PREROUTING", "-p", "tcp", "--dport", "8088", "-j", "DNAT", "--to-destination", f"{guest.address}:80")
        cell.host.run(f"iptables-{backend}", "-t", "nat", "-A", *published)
        saved = []
        for rules in ((), RULES, ()):
            cell.policy_file(FILE, policies(*rules))
            assert guest.connect("198.18.200.1", 443) is Connected
            assert web.connect("198.18.200.1", 443) is Refused
            lines = cell.host.run(f"iptables-{backend}-save").splitlines()
            saved.append([line for line in lines if line.startswith("-A") and "CELLNET" not in line])
        assert saved[0] == saved[1] == saved[2]
        assert any("8088" in line for line in saved[0])
        cell.host.run(f"iptables-{backend}", "-t", "nat", "-D", *published)


def test_a_thousand_networks_for_fifty_apps_are_there_when_the_file_is_taken(cell: CellUnderTest) -> None:
    networks: Sequence[str] = [f"198.18.{number // 64}.{4 * (number % 64)}/31" for number in range(1000)]
    rules: list[Rule] = [
        {
            "from": f"acme/many/app-{number}",
            "to": {"cidr": networks[20 * number : 20 * number + 20]},
            "tcp": ["443", str(1000 + number)],
        }
        for number in range(50)
    ]
    clients = apps(cell, "acme/many/app-0", "acme/many/app-49")
    cell.policy_file(FILE, policies(*rules))
    cell.sync()
    for client, own, others in zip(clients, (0, 999), (999, 0), strict=True):
        assert passes(client, networks[own].partition("/")[0], "tcp", 443)
        assert not passes(client, networks[others].partition("/")[0], "tcp", 443)
    assert cell.status().flag("ok")
