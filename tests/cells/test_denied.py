"""Between cells the destination's cell says who was refused what, in plain and in tunnels alike."""

from collections.abc import Sequence

import pytest

from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.node import Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, web_to_api


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
