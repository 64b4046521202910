"""What others do to the ways between cells: it is put back, counted, and outlived by what is open. What stands in the way
for good is reported, and no container of the cell itself is the worse for it.
"""

import pytest

from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import ConnectionPair
from tests.testlib.failures import LEASE_SECONDS, power_off
from tests.testlib.kernel_changes import tables
from tests.testlib.node import Connected, Refused, connect_at_once
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB
from tests.testlib.status import is_seen_alive, is_well, listed, name_of, reports

PATIENCE = 60.0  # seconds: the kernel is looked at every 10, and this machine is busy
FLUSHED = "iptables-nft -F; iptables-nft -t raw -F; iptables-nft -t mangle -F; iptables-nft -t nat -F"


def repairs(cell: CellUnderTest) -> int:
    return int(cell.status().text("repairs"))


def test_whatever_is_taken_from_the_ways_to_peers_is_put_back(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    cells.allow(WEB, API, "tcp/8080", "udp/8080")
    tie, cell, before = ConnectionPair(web, api), cells[1], tables(cells[1])
    subnet = cells[2].status().at("cell").text("subnet")
    peer, mac = subnet.partition("/")[0], next(line for line in before["forwarding"] if "dst 10.77.0.2 " in line).split()[0]
    entries = f"ip route del {subnet}; ip neigh del {peer} dev cellnet0; bridge fdb del {mac} dev cellnet0 dst 10.77.0.2 self"
    damages = (
        "ip link del cellnet0",
        f"{entries}; ipset del cellnet-vteps 10.77.0.2",
        FLUSHED,
        "ip link set cellnet0 down",
    )
    for damage in damages:
        count = repairs(cell)
        cell.host.run("sh", "-ec", damage)
        eventually(lambda: repairs(cell) > count, seconds=PATIENCE)
        eventually(lambda: tables(cell) == before, seconds=PATIENCE)
        eventually(tie.go_on_again)
        assert connect_at_once(api, web, 8080) is Refused
    eventually(lambda: is_well(cell), seconds=PATIENCE)


@pytest.mark.parametrize(
    ("foreign", "words"),
    [
        ("link add cellnet0 type bridge", "cannot make cellnet0"),
        ("link add other0 type vxlan id 1 dstport 4789 gbp", "cannot make cellnet0"),
    ],
)
def test_a_foreign_device_in_the_tunnels_place_is_reported_and_all_is_well_without_it(
    cells: CellsUnderTest, place: Place, foreign: str, words: str
) -> None:
    web, api, far = place(3, WEB), place(3, API, 8080), place(2, OTHER, 8080)
    cells.allow(WEB, API, "tcp/8080")
    cells.allow(WEB, OTHER, "tcp/8080")
    cell, device = cells[3], foreign.split()[2]
    cell.kill("agent")
    cell.host.run("ip", "link", "del", "cellnet0")
    cell.host.run("ip", *foreign.split())
    cell.start(well=False)
    eventually(lambda: reports(cell, "overlay", words), seconds=PATIENCE)
    told = next(each for each in cell.status().at("problems").each() if words in each.text("what"))
    assert ("ip link delete cellnet0" if device == "cellnet0" else "another VXLAN device has vni 1") in told.text("hint")
    near = place(3, OTHER, name="near")
    assert (connect_at_once(web, api, 8080), connect_at_once(near, api, 8080)) == (Connected, Refused)
    assert connect_at_once(web, far, 8080) is not Connected
    cell.host.run("ip", "link", "del", device)
    eventually(lambda: is_well(cell), seconds=PATIENCE)
    eventually(lambda: connect_at_once(web, far, 8080) is Connected)


def test_deleted_records_of_all_cells_are_written_again_and_cut_nothing(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    cells.allow(WEB, API, "tcp/8080", "udp/8080")
    tie, before = ConnectionPair(web, api), [tables(each) for each in cells]
    assert cells.etcd.try_ctl("del", "--prefix", "/cellnet/v1/cells/").code == 0
    eventually(lambda: all(len(listed(each)) == len(cells) for each in cells), seconds=PATIENCE)
    eventually(lambda: all(is_seen_alive(one, by=other) for one in cells for other in cells if one is not other))
    eventually(lambda: [tables(each) for each in cells] == before)
    eventually(tie.go_on_again)
    cells.wait_well()


def test_records_of_all_others_that_stay_deleted_are_believed(cells: CellsUnderTest) -> None:
    """They are down, and cannot write them again."""
    cell, before = cells[1], tables(cells[1])
    for number in (2, 3):
        power_off(cells, number)
    assert cells.etcd.try_ctl("del", "--prefix", "/cellnet/v1/cells/cell-").code == 0
    eventually(lambda: not ways(cell), seconds=LEASE_SECONDS)
    eventually(lambda: set(listed(cell)) == {name_of(cell)})
    for number in (2, 3):
        cells.heal(number)
        cells[number].start()
    eventually(lambda: tables(cell) == before, seconds=PATIENCE)


def ways(cell: CellUnderTest) -> list[str]:
    """Routes to peers."""
    return [line for line in tables(cell)["routes"] if "cellnet0" in line]
