"""What a cell says where no host is found that its policies name: the reason, and what to do about it."""

import json
from collections.abc import Callable

import pytest

from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.patience import eventually

WEB, NAME = "acme/shop/web", "api.example.com"
NOT_FOUND = "the hosts that policies name are not found"
POLICY = json.dumps({"policies": [{"from": WEB, "to": {"host": NAME}, "tcp": 443}]})


def problems(cell: CellUnderTest) -> list[tuple[str, str]]:
    return [(each.text("what"), each.text("hint")) for each in cell.status().at("problems").each()]


@pytest.mark.parametrize(
    ("override", "what", "hint"),
    [
        ("dns.upstreams=none", "this cell asks no name server (`dns.upstreams: none`)", "dns.upstreams in agent.yaml"),
        ("dns.upstreams=auto", "there is no name server of the outside to ask", "etc/resolv.conf"),
        ("dns.hop_user=nobody-there", "there is no user 'nobody-there' to ask the outside for names", "useradd --system"),
    ],
)
def test_the_reason_is_named_where_a_policy_needs_it_and_nowhere_else(
    make_cell: Callable[..., CellUnderTest], override: str, what: str, hint: str
) -> None:
    servers = () if "upstreams" in override else (f"dns.upstreams=['{OUTSIDE.ip}']",)
    cell = make_cell(override, *servers)
    cell.run_app(WEB)
    assert not any(NOT_FOUND in found for found, _ in problems(cell))
    cell.policy_file("hosts.yaml", POLICY)
    eventually(lambda: [found for found, _ in problems(cell) if NOT_FOUND in found] == [f"{NOT_FOUND}: {what}"])
    assert all(hint in said for found, said in problems(cell) if NOT_FOUND in found)
    assert not any("has failed" in found for found, _ in problems(cell)), "nobody is asked to report it"
    cell.remove_policy_file("hosts.yaml")
    assert problems(cell) == []


def test_that_it_does_not_run_is_said_after_a_while(cell: CellUnderTest) -> None:
    cell.run_app(WEB)
    cell.policy_file("hosts.yaml", POLICY)
    cell.kill("dns-hop")
    eventually(lambda: f"{NOT_FOUND}: what asks the outside for names does not run" in dict(problems(cell)))
    cell.start()
    eventually(lambda: problems(cell) == [])


@pytest.fixture(scope="module")
def cell_overrides() -> tuple[str, ...]:
    return (f"dns.upstreams=['{OUTSIDE.ip}']",)
