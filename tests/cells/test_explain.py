"""Asked on another cell than the app's, `explain` says what it cannot see there instead of taking it for well."""

from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.shop import API, WEB, web_to_api


def test_what_is_seen_on_the_destinations_cell_alone_is_said_to_be_so(cells: CellsUnderTest, place: Place) -> None:
    place(1, WEB)
    api = place(2, API)
    denied = cells[1].cellnet("explain", WEB, API, "tcp/9000", code=1).out
    assert "policy files of cell-2 may have one: ask there" in denied
    cells[2].policy_file("shop.yaml", web_to_api("tcp: 9000"))
    assert "nothing in api serves tcp/9000" in cells[2].cellnet("explain", WEB, API, "tcp/9000", code=1).out
    cells.allow(WEB, API, "tcp/9000")
    found = cells[1].cellnet("explain", WEB, API, "tcp/9000").out
    assert f"{api.name} runs on cell-2, and what listens in it is seen there alone" in found
    assert "ok  cell-2: cell-2 is alive, and its tunnel answers" in found
    assert found.endswith("nothing that is seen on this cell stands in the way\n")
    api.listen(9000)
    assert cells[2].cellnet("explain", WEB, API, "tcp/9000").out.endswith("it works\n")
