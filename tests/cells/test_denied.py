"""Between cells the destination's cell says who was refused what, in plain and in tunnels alike."""

from collections.abc import Sequence

import pytest

from dataplane.tunnel_probe import PORT as PROBE
from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.node import Refused
from tests.testlib.patience import becomes, eventually
from tests.testlib.shop import API, OTHER, WEB, web_to_api


@pytest.fixture(scope="module", params=["none", "strict"])
def cell_overrides(request: pytest.FixtureRequest) -> Sequence[str]:
    return (f"tls.mtls={request.param}",)


def test_a_call_from_another_cell_is_told_by_its_app(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    cells[2].policy_file("shop.yaml", web_to_api("tcp: 8080"))
    web.connect(api, 9007)

    def told() -> bool:
        found = cells[2].client.get("/v1/denied", app=WEB, to=API, port="tcp/9007").at("denied").each()
        return "policy" in [each.text("reason") for each in found]

    eventually(told)
    assert web.udp(api, 9008, seconds=0.2) is Refused
    eventually(lambda: list(cells[2].client.get("/v1/denied", app=WEB, to=API, port="udp/9008").at("denied").each()))


def test_a_call_that_no_policy_allows_at_all_is_told_with_its_port_on_its_own_cell(cells: CellsUnderTest, place: Place) -> None:
    """In a tunnel the destination's cell does not see the port, and says so."""
    other, api = place(1, OTHER), place(2, API, 8080)
    other.connect(api, 9011)

    def ports(cell: CellUnderTest) -> set[str]:
        return {each.text("port") for each in cell.client.get("/v1/denied", app=OTHER, to=API).at("denied").each()}

    if cells[1].status().at("mutual_tls").text("mode") == "none":
        eventually(lambda: ports(cells[2]) == {"9011"})
        return
    eventually(lambda: ports(cells[1]) == {"9011"} and ports(cells[2]) == {"0"})
    assert "in a tunnel: to which ports, its own cell knows" in cells[2].cellnet("flows", "--denied").out
    warned = cells[2].cellnet("policy", "suggest").err
    assert f"{OTHER} called {API} in tunnels: 'cellnet policy suggest' on its own cell has the ports" in warned
    cells[1].cellnet("explain", OTHER, API, "tcp/9012", "--try", code=1)
    eventually(lambda: "policy by `explain --try`" in cells[1].cellnet("flows", "--denied", "--port", "tcp/9012").out)
    assert "9012" not in cells[1].cellnet("policy", "suggest").out


def test_what_cells_ask_each_other_for_their_tunnels_is_not_denied(cells: CellsUnderTest) -> None:
    """That it is refused is the answer, every ten seconds and from each cell."""
    end = cells[2].status().at("cell").text("subnet").partition("/")[0]
    for port in (10, PROBE, 11):
        cells[1].host.run("bash", "-c", f"exec 3<>/dev/tcp/{end}/{port} || true")

    def ports() -> list[str]:
        found = cells[2].client.get("/v1/denied", to=end).at("denied").each()
        return [each.text("port") for each in found]

    becomes(["10", "11"], ports)
