"""A host without IPv6: there is nothing to block, so a cell runs there with either backend."""

from collections.abc import Sequence

import pytest

from lab.cell import Cell
from tests.testlib.agents.without_ipv6 import CellWithoutIpv6
from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Connected, Refused


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return CellWithoutIpv6


@pytest.fixture(scope="module", params=["legacy", "nft"])
def cell_overrides(request: pytest.FixtureRequest) -> Sequence[str]:
    return (f"firewall.backend={request.param}",)


def test_a_cell_starts_and_enforces(cell: CellUnderTest) -> None:
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    assert web.connect(api, 8080) is Refused
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    assert web.connect(api, 8080) is Connected
    assert cell.status().at("repairs").value == 0
