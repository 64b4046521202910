"""Hosts outside on the wire as the language has them: each name of each app, against the oracle; plain and strict."""

import json
from collections.abc import Iterator

import pytest

from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.dns_client import ask
from tests.testlib.oracle import Known, Rule, goes_out
from tests.testlib.outside import passes, served
from tests.testlib.scripted_dns import scripted_dns

WEB, API, JOB, OTHER = "acme/shop/web", "acme/shop/api", "acme/batch/job", "evil/shop/web"
FILE = "hosts.yaml"
TCP, UDP = (443, 8443), (5353,)
RULES: tuple[Rule, ...] = (
    {"from": WEB, "to": {"host": ["api.example.com", "*.example.org"]}, "tcp": ["443"]},
    {"from": "acme/shop/*", "to": {"host": "api.example.com"}, "tcp": ["8000-9000"], "udp": ["5353"]},
    {"from": JOB, "to": {"host": "example.org"}, "tcp": "any"},
    {"from": [JOB, API], "to": {"host": "*.b.example.org"}, "udp": "any"},
    {"from": WEB, "to": API, "tcp": "any"},
)
NAMES = ("api.example.com", "x.api.example.com", "example.com", "example.org", "a.example.org", "b.example.org",
         "c.b.example.org", "d.c.b.example.org", "evilexample.org", "example.org.evil.net")  # fmt: skip
ADDRESSES = {name: f"198.18.30.{number}" for number, name in enumerate(NAMES)}


@pytest.fixture(params=[("legacy", "none"), ("nft", "strict")], ids="-".join)
def cell(request: pytest.FixtureRequest) -> Iterator[CellUnderTest]:
    """Whose name server outside knows all names."""
    backend, mode = request.param
    overrides = (f"firewall.backend={backend}", f"tls.mtls={mode}", f"dns.upstreams=['{OUTSIDE.ip}']")
    with (
        running_cell(*overrides) as made,
        served(made.outside, tcp=TCP, udp=UDP),
        scripted_dns(made.outside, at=OUTSIDE.ip) as dns,
    ):
        dns.records = {name: [f"A {address}"] for name, address in ADDRESSES.items()}
        yield made


def test_the_truth_table_of_names_ports_and_protocols(cell: CellUnderTest) -> None:
    known = Known(files={FILE: RULES})
    clients = {app: cell.run_app(app, name=app.replace("/", "-")) for app in (WEB, API, JOB, OTHER)}
    cell.policy_file(FILE, json.dumps({"policies": RULES}))
    calls = [*(("tcp", port) for port in TCP), *(("udp", port) for port in UDP)]
    wanted = {
        (app, name, protocol, port): goes_out(app, to=name, protocol=protocol, port=port, known=known)
        for app in clients
        for name in NAMES
        for protocol, port in calls
    }
    assert set(wanted.values()) == {True, False}
    told = {(app, name): ask(client, name).addresses for app, client in clients.items() for name in NAMES}
    found = {each: passes(clients[each[0]], ADDRESSES[each[1]], *each[2:]) for each in wanted}
    assert found == wanted
    may_ask = {(app, name): any(wanted[app, name, *each] for each in calls) for app in clients for name in NAMES}
    assert told == {(app, name): [ADDRESSES[name]] if may_ask[app, name] else [] for app, name in may_ask}
