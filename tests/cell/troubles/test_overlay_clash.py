"""Routes of other programs inside the overlay and around it, at the start of an agent and while it runs."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from agent.errors import Unavailable
from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import three_apps

INSIDE = "10.255.7.0/24"


def problems(cell: CellUnderTest) -> str:
    """In one line; nothing while the agent does not answer yet."""
    with suppress(Unavailable):
        return "; ".join(each.text("what") for each in cell.status().at("problems").each())
    return ""


def test_a_cell_with_containers_starts_and_enforces_beside_a_vpn_and_reports_a_clash(
    make_cell: Callable[..., CellUnderTest],
) -> None:
    cell = make_cell(kind=VigilantCell)
    web, api, _ = three_apps(cell)
    cell.stop()
    for route in ("0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", INSIDE):
        cell.host.run("ip", "route", "add", route, "via", str(cell.outside.address))
    cell.forget_files()
    cell.start(well=False)
    eventually(lambda: web.connect(api, 8080) is Refused)
    eventually(lambda: problems(cell).endswith(f"overlaps what this host uses: route {INSIDE} on eth0"))
    cell.host.run("ip", "route", "del", INSIDE)
    cell.wait_well()
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    assert web.connect(api, 8080) is Connected


@pytest.mark.parametrize("route", ["10.255.0.0/16", INSIDE])
def test_a_cell_without_containers_is_refused_with_both_named(make_cell: Callable[..., CellUnderTest], route: str) -> None:
    cell = make_cell()
    cell.stop()
    cell.host.run("ip", "route", "add", route, "via", str(cell.outside.address))
    said = cell.cellnet("agent", code=1).err
    assert "the overlay network 10.255.0.0/16 overlaps what this host uses: route " + route in said
    cell.host.run("ip", "route", "del", route)
    cell.start()
