"""`policy list --unused` names the policies that no flow has used, in plain and in tunnels."""

import shlex
from collections.abc import Sequence

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, commands
from tests.testlib.node import Connected
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB


@pytest.fixture(scope="module", params=["none", "strict"])
def cell_overrides(request: pytest.FixtureRequest) -> Sequence[str]:
    return (f"tls.mtls={request.param}",)


def test_a_policy_is_unused_until_a_connection_has_come_by_it(cell: CellUnderTest) -> None:
    web, api = cell.containers(WEB, API)
    rules = "".join(f"- {{name: on-{port}, from: {WEB}, to: {API}, tcp: {port}}}\n" for port in (8080, 9000))
    cell.policy_file("shop.yaml", f"policies:\n{rules}- {{name: away, from: {WEB}, to: acme/shop/db, tcp: 1}}\n")

    def unused() -> set[str]:
        lines = cell.cellnet("policy", "list", "--unused").out.splitlines()[1:]
        return {line.split()[0] for line in lines}

    assert unused() == {"on-8080", "on-9000"}
    assert web.connect(api, 8080) is Connected  # and over
    eventually(lambda: unused() == {"on-9000"})
    assert "1 policy for apps without a container on this cell" in cell.cellnet("policy", "list", "--unused").err


def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    (block,) = blocks("docs/policies.md", test="tests/cell/policies/test_unused.py")
    for command in commands(block):
        cell.cellnet(*shlex.split(command)[1:])
