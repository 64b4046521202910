"""Any cell shows what flows on all of them, as each has summed it up."""

from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, web_to_api


def test_one_cell_shows_what_flows_on_another(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    cells[2].policy_file("shop.yaml", web_to_api("tcp: 8080"))
    live = web.dial(api, 8080)
    cells[2].kill("agent", again=True)  # the first summary comes soon after a start
    cells[2].wait_well()
    second = cells[2].status().at("cell").text("name")

    def shows() -> bool:
        lines = cells[1].cellnet("flows", "--all", "--to", API).out.splitlines()[1:]
        return any(all(each in line for each in (WEB, "tcp/8080", second, "shop.yaml:")) for line in lines)

    eventually(shows)
    live.close()
