"""The outside of several cells as the language has it: calls out are judged where the caller is, calls in where the container
is, by the store and that cell's own file; whatever the cells' backends, plain and in strict mode."""

import json
from collections.abc import Iterator

import pytest

from lab.segment import OUTSIDE
from tests.testlib.cells import COUNT, running_cells
from tests.testlib.mixed_cell import MixedCell
from tests.testlib.oracle import Known, Mode
from tests.testlib.outside_tables import (
    API,
    CALLERS,
    HOSTS,
    JOB,
    NETWORKS,
    OTHER,
    RULES,
    WEB,
    Server,
    by_address,
    by_name,
    from_container,
    from_outside,
    outside_of,
    placed,
)

FILE = "outside.yaml"
IN_A_FILE = (NETWORKS[0], NETWORKS[1], HOSTS[0], CALLERS[0], CALLERS[1])  # of cell 2
PLACES = ((1, WEB), (2, WEB), (2, API), (3, API), (3, JOB), (1, OTHER))
BOTH = {True, False}


@pytest.fixture(scope="module", params=[Mode.NONE, Mode.STRICT], ids=lambda each: each.value)
def servers(request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    """By PLACES. Most policies are in the store, some on one cell alone."""
    stored = {f"stored-{number}": rule for number, rule in enumerate(RULES) if rule not in IN_A_FILE}
    known = [Known({FILE: IN_A_FILE} if cell == 2 else {}, stored) for cell, _ in PLACES]
    overrides = (f"tls.mtls={request.param.value}", f"dns.upstreams=['{OUTSIDE.ip}']")
    with running_cells(COUNT, *overrides, kind=MixedCell) as cells, outside_of(*cells):
        places = zip(PLACES, known, strict=True)
        made = [placed(cells[number], app, known=one, mode=request.param) for (number, app), one in places]
        cells[2].policy_file(FILE, json.dumps({"policies": IN_A_FILE}))
        named = [{"name": name, **rule} for name, rule in stored.items()]
        cells[3].client.post("/v1/policies/apply", {"document": json.dumps({"policies": named})})
        cells.sync()
        yield made
        cells.tidy()


def test_calls_out_are_judged_by_what_the_callers_cell_goes_by(servers: list[Server]) -> None:
    web, web_by_file, api_by_file, *others = [by_address(each) for each in servers]
    assert set(web.values()) == {False}
    assert [set(each.values()) for each in (web_by_file, api_by_file, *others)] == [BOTH, BOTH, BOTH, BOTH, {False}]
    assert api_by_file != others[0], "of the two instances of one app"


def test_hosts_are_found_and_reached_by_what_the_callers_cell_goes_by(servers: list[Server]) -> None:
    web, web_by_file, *others = [by_name(each) for each in servers]
    assert web != web_by_file, "of the two instances of one app"
    assert [set(each.values()) for each in (web, web_by_file, *others)] == [*[BOTH] * 5, {False}]


def test_calls_in_are_judged_where_the_container_is_also_those_of_other_cells_hosts(servers: list[Server]) -> None:
    hosts = {each.cell.host.address: each.cell.host for each in servers}
    found = [from_outside(each, *(host for host in hosts.values() if host is not each.cell.host)) for each in servers]
    assert [set(each.values()) for each in found] == [{False}, *[BOTH] * 4, {False}]
    _, _, api, *_ = found
    one, other = (f"{servers[number].cell.host.address} tcp/80" for number in (0, 3))
    assert (api[one], api[other]) == (False, True), "of cells 1 and 3, by their addresses"


def test_containers_reach_published_ports_of_their_own_cell_alone(servers: list[Server]) -> None:
    found = {
        (source.app, server.app) for source in servers for server in servers if True in from_container(source, server).values()
    }
    assert found == (set() if servers[0].mode is Mode.STRICT else {(WEB, API), (JOB, API), (API, API)})
