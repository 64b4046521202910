"""The outside on the wire as the language has it: networks, hosts and published ports against the oracle, with either backend,
plain and in strict mode."""

import json
from collections.abc import Iterator

import pytest

from lab.segment import OUTSIDE
from tests.testlib.cell import running_cell
from tests.testlib.oracle import Known, Mode
from tests.testlib.outside_tables import (
    APPS,
    CALLERS,
    HOSTS,
    RULES,
    Server,
    by_address,
    by_name,
    from_container,
    from_outside,
    outside_of,
    placed,
)

FILE = "outside.yaml"
STORED = {f"stored-{number}": rule for number, rule in enumerate((CALLERS[0], HOSTS[0], RULES[0]))}
BOTH = {True, False}


@pytest.fixture(
    scope="module",
    params=[(backend, mode) for backend in ("nft", "legacy") for mode in (Mode.NONE, Mode.STRICT)],
    ids=lambda each: f"{each[0]}-{each[1].value}",
)
def servers(request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    """One of each app. Some policies are in a file, some in the store."""
    backend, mode = request.param
    known = Known({FILE: [each for each in RULES if each not in STORED.values()]}, STORED)
    overrides = (f"firewall.backend={backend}", f"tls.mtls={mode.value}", f"dns.upstreams=['{OUTSIDE.ip}']")
    with running_cell(*overrides) as cell, outside_of(cell):
        made = [placed(cell, app, known=known, mode=mode) for app in APPS]
        cell.policy_file(FILE, json.dumps({"policies": known.files[FILE]}))
        stored = [{"name": name, **rule} for name, rule in STORED.items()]
        cell.client.post("/v1/policies/apply", {"document": json.dumps({"policies": stored})})
        cell.sync()
        yield made
        cell.tidy()


def test_networks_exceptions_ports_and_protocols_of_calls_out(servers: list[Server]) -> None:
    found = [set(by_address(each).values()) for each in servers]
    assert found == [BOTH, BOTH, BOTH, {False}]


def test_names_ports_and_protocols_of_calls_out(servers: list[Server]) -> None:
    found = [set(by_name(each).values()) for each in servers]
    assert found == [BOTH, BOTH, BOTH, {False}]


def test_networks_exceptions_ports_and_protocols_of_published_ports(servers: list[Server]) -> None:
    found = [set(from_outside(each).values()) for each in servers]
    assert found == [BOTH, BOTH, BOTH, {False}]


def test_a_published_port_is_to_containers_of_its_cell_what_the_container_itself_is(servers: list[Server]) -> None:
    found = {each.app: {passed for other in servers for passed in from_container(other, each).values()} for each in servers}
    closed = servers[0].mode is Mode.STRICT  # TCP in tunnels alone, which no published port is an end of
    assert list(found.values()) == [{False}, {False} if closed else BOTH, BOTH, {False}]
