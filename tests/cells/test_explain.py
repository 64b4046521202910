"""Asked on another cell than the app's, `explain` says what it cannot see there instead of taking it for well."""

from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.explained import explained
from tests.testlib.patience import eventually
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
    assert "cell-2 is alive, and its tunnel" in found
    assert found.endswith("nothing that is seen on this cell stands in the way\n")
    api.listen(9000)
    assert cells[2].cellnet("explain", WEB, API, "tcp/9000").out.endswith("it works\n")


def drop(cell: CellUnderTest, packets: str) -> None:
    """As a firewall of the underlay would."""
    chain = "{ type filter hook input priority -400; }"
    cell.host.run("nft", f"add table ip blocked; add chain ip blocked input {chain}; add rule ip blocked input {packets} drop")


def test_tunnels_that_are_silent_or_lose_large_packets_are_told(cells: CellsUnderTest, place: Place) -> None:
    place(1, WEB)
    place(2, API, name="near")
    place(3, API, name="far")
    try:
        drop(cells[2], "udp dport 4789")
        drop(cells[3], "udp dport 4789 ip length > 1000")
        silent = "NO  cell-2: the tunnel to cell-2 does not answer"
        small = "NO  cell-3: the tunnel to cell-3 loses packets of full size"
        eventually(lambda: {silent, small} <= set(explained(cells[1], WEB, API, "tcp/9000").splitlines()), seconds=60)
    finally:
        for each in (cells[2], cells[3]):
            each.host.run("nft", "delete", "table", "ip", "blocked")
