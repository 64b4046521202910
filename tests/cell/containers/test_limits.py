"""What one attachment may take at most, from the command line to the kernel, on each backend."""

import json
import socket
import struct
from collections.abc import Iterator

import pytest

from agent.client.answer import Fields
from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.explained import explained
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused, connect_at_once
from tests.testlib.outside import served
from tests.testlib.patience import eventually

WEB, OUTSIDE = "acme/shop/web", "198.18.0.1"
POLICY = "policies: [{from: acme/shop/*, to: {cidr: 198.18.0.0/15}, tcp: [443]}]"
LIMITS = ("--limit-rate", "50mbit", "--limit-connections", "3", "--limit-new", "9/s")


@pytest.fixture(scope="module", params=["nft", "legacy"])
def kept(request: pytest.FixtureRequest) -> Iterator[CellUnderTest]:
    with running_cell(f"firewall.backend={request.param}") as made, served(made.outside, tcp=[443]):
        yield made


@pytest.fixture
def cell(kept: CellUnderTest) -> Iterator[CellUnderTest]:
    kept.policy_file("out.yaml", POLICY)
    yield kept
    kept.tidy()


def limited(cell: CellUnderTest, name: str) -> Fields | None:
    return next((each for each in cell.status().at("limited").each() if each.text("name") == name), None)


def crowd(web: Instance) -> None:
    """It opens as many connections as it may, is refused one more, and resets all."""
    held = [web.dial(OUTSIDE, 443) for _ in range(3)]
    assert connect_at_once(web, OUTSIDE, 443) is Refused
    for each in held:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.close()


def test_a_container_with_limits_is_refused_more_and_status_and_metrics_name_it(cell: CellUnderTest) -> None:
    web, api = cell.run_app("acme/shop/web", options=LIMITS), cell.run_app("acme/shop/api")
    (shown,) = [each for each in json.loads(cell.cellnet("ps", "--json").out) if each["name"] == "web"]
    assert shown["limits"] == {"rate": "50mbit", "connections": 3, "new": 9}
    crowd(web)
    assert connect_at_once(api, OUTSIDE, 443) is Connected
    eventually(lambda: limited(cell, "web") is not None)
    assert limited(cell, "api") is None
    found = limited(cell, "web")
    assert found is not None
    assert found.text("connections") == "1"
    told = explained(cell, WEB, OUTSIDE, "tcp/443")
    assert "web has come to its limits: 1 refused that were too many at once" in told
    eventually(lambda: "limit (more than the container may begin or have open)" in explained(cell, WEB, OUTSIDE, "tcp/443"))
    assert cell.status().flag("ok"), "a limit that does what it should is no problem"
    metrics = cell.host.run(
        "curl", "-s", "--unix-socket", str(cell.lab.root / "run/cellnet/agent.sock"), "http://cell/v1/metrics"
    )
    assert 'cellnet_limit_hits{limit="connections",name="web"} 1.0' in metrics


def test_limits_outlive_the_agent_and_are_the_next_ones_too(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web", options=LIMITS)
    cell.kill("agent")
    crowd(web)
    cell.start()
    assert cell.status().text("repairs") == "0"
    (shown,) = json.loads(cell.cellnet("ps", "--json").out)
    assert shown["limits"] == {"rate": "50mbit", "connections": 3, "new": 9}
    eventually(lambda: connect_at_once(web, OUTSIDE, 443) is Connected)


def test_a_rate_that_another_program_has_taken_away_is_put_back(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web", options=LIMITS)
    cell.host.run("tc", "qdisc", "del", "dev", web.interface, "root")
    eventually(lambda: "rate 50Mbit" in cell.host.run("tc", "qdisc", "show", "dev", web.interface))


def test_nothing_of_a_limit_is_left_when_its_container_has_gone(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web", options=LIMITS)
    assert "cifb" in cell.host.run("ip", "link")
    web.stop()
    eventually(lambda: "cifb" not in cell.host.run("ip", "link"))
    eventually(lambda: "cellnet-over" not in cell.host.run("ipset", "list", "-n"))
