"""What flows between cells is known on both, by apps; a stream in a tunnel by the port that is called, not by the tunnel's."""

from collections.abc import Sequence
from functools import partial

import pytest

from dataplane.tunnel_probe import PORT as PROBE
from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.event_stream import Event, EventStream
from tests.testlib.node import pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, web_to_api


@pytest.fixture(scope="module", params=["none", "strict"])
def cell_overrides(request: pytest.FixtureRequest) -> Sequence[str]:
    return (f"tls.mtls={request.param}",)


def listed(cells: CellsUnderTest, number: int) -> list[Event]:
    return [dict(each.fields) for each in cells[number].client.get("/v1/flows").at("flows").each()]


def has(cells: CellsUnderTest, number: int, wanted: Event) -> bool:
    found = [each for each in listed(cells, number) if each["port"] == wanted["port"]]
    return [{name: each[name] for name in wanted} for each in found] == [wanted]


def test_a_flow_between_cells_is_known_on_both_by_apps_and_port(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API)
    for number in (1, 2):
        cells[number].policy_file("shop.yaml", web_to_api("name: shop, tcp: 9000"))
    is_strict = cells[1].status().at("mutual_tls").text("mode") == "strict"
    with EventStream(cells[1].client.path) as here, EventStream(cells[2].client.path) as there:
        pair(web, api, 9000)
        for number, told in ((1, here), (2, there)):
            wanted = {"from": WEB, "to": API, "port": 9000, "policy": "shop", "tunnel": is_strict, "state": "open"}
            eventually(partial(told.of, "new", **{**wanted, "state": "opening"}))
            eventually(partial(has, cells, number, wanted))
        assert not [each for each in (*listed(cells, 1), *listed(cells, 2)) if each["port"] == 15008]
        assert not [each for told in (here, there) for each in told.events if each.get("port") == 15008]


def test_what_cells_ask_each_other_for_their_tunnels_is_no_flow(cells: CellsUnderTest) -> None:
    """No app has a part in it, and each cell asks each other one every ten seconds."""
    end = cells[2].status().at("cell").text("subnet").partition("/")[0]
    for port in (10, PROBE, 11):
        cells[1].host.run("bash", "-c", f"echo > /dev/udp/{end}/{port}")
    eventually(lambda: {10, 11} <= {each["port"] for each in listed(cells, 1) if each["to"] == end})
    assert [each for each in (*listed(cells, 1), *listed(cells, 2)) if each["port"] == PROBE] == []
