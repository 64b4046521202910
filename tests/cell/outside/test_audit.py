"""What only a policy in audit lets out or in passes and is recorded, on each backend; what another lets is not; and the records
become policies in force."""

import json
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from agent.client.answer import Fields
from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.dns.client import ask
from tests.testlib.dns.scripted_server import scripted_dns
from tests.testlib.node import Connected, Node, Refused, pair
from tests.testlib.oracle import Rule
from tests.testlib.outside import caller, passes, served
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
HOST, ADDRESSES = "pay.example.com", ("198.18.50.1", "198.18.50.2")


@pytest.fixture(scope="module", params=["nft", "legacy"])
def kept(request: pytest.FixtureRequest) -> Iterator[CellUnderTest]:
    with (
        running_cell(f"firewall.backend={request.param}", f"dns.upstreams=['{OUTSIDE.ip}']") as made,
        served(made.outside, tcp=(443, 444), udp=(5353,)),
        scripted_dns(made.outside, at=OUTSIDE.ip) as dns,
    ):
        dns.records = {HOST: [f"A {each}" for each in ADDRESSES]}
        yield made


@pytest.fixture
def cell(kept: CellUnderTest) -> Iterator[CellUnderTest]:
    """With no apps and no policies; what is outside answers."""
    yield kept
    kept.tidy()


def allow(cell: CellUnderTest, *rules: Rule) -> None:
    """What is JSON is YAML."""
    cell.policy_file("outside.yaml", json.dumps({"policies": rules}))


def outside(cell: CellUnderTest, address: str) -> Node:
    """The host outside, known by one of its many addresses."""
    return Node(cell.outside.pin, address=IPv4Address(address))


def recorded(cell: CellUnderTest, app: str) -> list[str]:
    """What passed by an audit from or to an app, each as often as it was recorded."""
    found = [each for each in cell.client.get("/v1/denied", app=app).at("denied").each() if each.text("reason") == "audit"]
    return sorted(f"{each.text('from')} {each.text('to')} {each.text('protocol')}/{each.text('port')}" for each in found)


def flows(cell: CellUnderTest, port: str) -> list[Fields]:
    return list(cell.client.get("/v1/flows", app=WEB, port=port).at("flows").each())


def suggested(cell: CellUnderTest, app: str) -> list[str]:
    lines = cell.cellnet("policy", "suggest", "--app", app).out.splitlines()
    return [line.partition(", note:")[0].strip(" -{") for line in lines if line.startswith("  -")]


def test_what_an_audit_alone_lets_out_passes_and_is_recorded_and_what_a_policy_lets_out_is_not(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB, name="out-web"), cell.run_app(API, name="out-api")
    many = [f"198.18.{number}.0/28" for number in range(0, 12, 2)]  # so many are a set of the kernel's
    allow(
        cell,
        {"from": WEB, "to": {"cidr": many}, "tcp": [443, 444], "udp": 5353, "icmp": "echo", "mode": "audit"},
        {"from": WEB, "to": {"cidr": "198.18.0.0/24"}, "tcp": 444},
    )
    before = recorded(cell, WEB)
    assert passes(web, "198.18.0.1", "tcp", 443)
    assert passes(web, "198.18.0.1", "tcp", 444)
    assert passes(web, "198.18.2.1", "udp", 5353)
    assert passes(web, "198.18.2.2", "icmp", 0)
    assert not passes(web, "198.18.1.1", "tcp", 443)
    assert not passes(api, "198.18.0.1", "tcp", 443)
    expected = [f"{WEB} 198.18.0.1 tcp/443", f"{WEB} 198.18.2.1 udp/5353", f"{WEB} 198.18.2.2 icmp/0"]
    eventually(lambda: recorded(cell, WEB) == sorted(before + expected))
    assert f"{WEB} -> 198.18.0.1 tcp/443 (audit) once" in cell.cellnet("status").out
    assert "in audit alone" in cell.cellnet("policy", "check", WEB, "198.18.0.1", "tcp/443").out
    assert "in audit" not in cell.cellnet("policy", "check", WEB, "198.18.0.1", "tcp/444").out
    assert f"from: {WEB}, to: {{cidr: 198.18.0.1/32}}, tcp: 443" in suggested(cell, WEB)


def test_what_an_audit_alone_lets_in_passes_and_is_recorded(cell: CellUnderTest) -> None:
    published = ["--publish", "7080:80", "--publish", "7443:443"]
    cell.run_app(WEB, name="in-web", port=(80, 443), server=True, options=published)
    allow(
        cell,
        {"from": {"cidr": "0.0.0.0/0"}, "to": WEB, "tcp": [80, 443], "mode": "audit"},
        {"from": {"cidr": "198.18.3.0/24"}, "to": WEB, "tcp": 443},
    )
    guest, known = caller(cell.outside, "198.18.2.1"), caller(cell.outside, "198.18.3.1")
    host = str(cell.host.address)
    assert [passes(each, host, "tcp", port) for each in (guest, known) for port in (7080, 7443)] == [True] * 4
    expected = [f"198.18.2.1 {WEB} tcp/443", f"198.18.2.1 {WEB} tcp/80", f"198.18.3.1 {WEB} tcp/80"]
    eventually(lambda: [each for each in recorded(cell, WEB) if each.startswith("198.")] == expected)
    assert f"from: {{cidr: 198.18.3.1/32}}, to: {WEB}, tcp: 80" in suggested(cell, WEB)


def test_flows_live_on_where_it_becomes_a_policy_in_force_and_are_cut_where_it_ends(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB, name="live-web")
    trial = {"from": WEB, "to": {"cidr": "198.18.0.0/16"}, "tcp": [5000, 5001], "mode": "audit"}
    allow(cell, trial)
    kept, cut = (pair(web, outside(cell, "198.18.0.1"), port) for port in (5000, 5001))
    eventually(lambda: [each.flag("audit") for each in flows(cell, "tcp/5000")] == [True])
    allow(cell, {"from": WEB, "to": {"cidr": "198.18.0.0/16"}, "tcp": 5000})
    assert is_alive(*kept)
    assert all(map(is_reset, cut))
    allow(cell)
    assert all(map(is_reset, kept))


def test_what_an_audit_of_a_name_lets_out_is_suggested_by_that_name(cell: CellUnderTest) -> None:
    app = "acme/named/web"
    web = cell.run_app(app, name="named-web")
    allow(cell, {"from": app, "to": {"host": ["*.com", "*.org"]}, "tcp": 443, "mode": "audit"})
    found = ask(web, HOST).addresses
    assert sorted(found) == sorted(ADDRESSES)
    assert [web.connect(each, 443) for each in found] == [Connected, Connected]
    eventually(lambda: suggested(cell, app) == [f"from: {app}, to: {{host: {HOST}}}, tcp: 443"])
    text = cell.cellnet("policy", "suggest", "--app", app).out
    cell.policy_file("outside.yaml", text)
    assert ask(web, HOST).addresses
    assert web.connect(ADDRESSES[0], 443) is Connected
    allow(cell)
    assert web.connect(ADDRESSES[0], 443) is Refused
