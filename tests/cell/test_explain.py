"""Each thing that stands in the way of a connection is told by the very sentence that says what to do about it."""

import json
import shlex
import socket
from collections.abc import Sequence

import pytest

from host.namespace import run_in
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, commands
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, web_to_api


@pytest.fixture(scope="module", params=["none", "strict"])
def cell_overrides(request: pytest.FixtureRequest) -> Sequence[str]:
    return (f"tls.mtls={request.param}",)


@pytest.fixture
def two(cell: CellUnderTest) -> tuple[Instance, Instance]:
    """Web may reach api on 9000, where api listens."""
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("tcp: 9000-9002"))
    api.listen(9000)
    return web, api


def explained(cell: CellUnderTest, source: str, to: str, port: str, *, works: bool = False) -> str:
    return cell.cellnet("explain", source, to, port, code=0 if works else 1).out


def test_what_works_is_told_as_such_and_does(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    web, api = two
    found = explained(cell, WEB, API, "tcp/9000", works=True)
    assert f"ok  policy: allowed by shop.yaml:2 ({cell.lab.policies}/shop.yaml:2)" in found
    assert f"ok  {WEB}: runs as {web.name} on cell-{cell.lab.number} ({web.address})" in found
    assert f"ok  listener: {api.name} serves tcp/9000" in found
    assert found.endswith("it works\n")
    assert web.connect(api, 9000) is Connected


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("source", "to", "port", "sentences"),
    [
        (WEB, API, "tcp/9100", [f"no policy lets {WEB} reach {API} on tcp/9100", f"{WEB} may reach {API} on tcp/9000-9002"]),
        (WEB, API, "udp/9000", [f"no policy lets {WEB} reach {API} on udp/9000"]),
        (API, WEB, "tcp/9000", ["the other direction is allowed by shop.yaml:2"]),
        ("acme/shop/wbe", API, "tcp/9000", ["did you mean acme/shop/web?", "no instance of acme/shop/wbe is attached"]),
        ("zeta/shop/web", API, "tcp/9000", [f"no policy lets zeta/shop/web reach {API}"]),
        (WEB, API, "tcp/9001", ["nothing in api serves tcp/9001"]),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_told(cell: CellUnderTest, source: str, to: str, port: str, sentences: list[str]) -> None:
    found = explained(cell, source, to, port)
    for each in sentences:
        assert each in found, found
    assert found.endswith("it does not work\n")


def test_an_app_that_listens_on_its_loopback_alone_is_told(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    web, api = two
    api.keep(run_in(api.pin, lambda: socket.create_server(("127.0.0.1", 9002))))
    assert f"NO  listener: {api.name} serves tcp/9002 on 127.0.0.1 only" in explained(cell, WEB, API, "tcp/9002")
    if cell.status().at("mutual_tls").text("mode") == "none":
        assert web.connect(api, 9002) is Refused


def test_what_was_refused_and_a_policy_that_has_ended_are_told(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    web, api = two
    web.connect(api, 9105)
    eventually(lambda: "refused here once, the last at" in explained(cell, WEB, API, "tcp/9105"))
    cell.policy_file("old.yaml", f"policies: [{{from: {WEB}, to: {API}, tcp: 9106, until: 2020-01-01T00:00Z}}]\n")
    assert "old.yaml:1 allowed it until 2020-01-01T00:00:00Z" in explained(cell, WEB, API, "tcp/9106")
    found = json.loads(cell.cellnet("explain", WEB, API, "tcp/9105", "--json", code=1).out)
    assert (found["works"], found["steps"][0]["ok"]) == (False, False)


@pytest.mark.usefixtures("two")
def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    (block,) = blocks("docs/policies.md", test="tests/cell/test_explain.py")
    for command in commands(block):
        cell.cellnet(*shlex.split(command)[1:], code=None)


def test_what_no_policy_allows_is_told_and_suggested_with_the_port_that_was_called(cell: CellUnderTest) -> None:
    """In a tunnel too, whose own port no policy can open."""
    other, api = cell.run_app(OTHER), cell.run_app(API)
    other.connect(api, 9100)
    eventually(lambda: "refused here once" in explained(cell, OTHER, API, "tcp/9100"))
    eventually(lambda: f"{{from: {OTHER}, to: {API}, tcp: 9100, " in cell.cellnet("policy", "suggest", "--app", OTHER).out)
    kept = list(cell.client.get("/v1/denied", app=OTHER).at("denied").each())
    assert [each.text("port") for each in kept] == ["9100"]
