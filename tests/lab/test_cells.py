"""The words of tests about several cells: what one does, the others see, unless they are cut off."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from agent.errors import Unavailable
from host import process
from host.namespace import run_in
from lab.segment import SWITCH, ip
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"


def troubled(cell: CellUnderTest) -> bool:
    """Whether it misses its store."""
    with contextlib.suppress(Unavailable):
        return any(each.text("area") == "store" for each in cell.status().at("problems").each())
    return False


def subnets(cells: CellsUnderTest) -> set[str]:
    return {each.status().at("cell").text("subnet") for each in cells}


def test_each_cell_has_a_name_an_address_and_a_subnet_of_its_own(cells: CellsUnderTest) -> None:
    assert [each.status().at("cell").text("name") for each in cells] == ["cell-1", "cell-2", "cell-3"]
    assert [str(each.host.address) for each in cells] == ["10.77.0.1", "10.77.0.2", "10.77.0.3"]
    assert len(subnets(cells)) == len(cells) == 3


def test_cells_reach_each_other_and_the_outside_over_the_switch(cells: CellsUnderTest) -> None:
    cells[2].host.listen(9000)
    cells[2].outside.listen(9001)
    assert cells[1].host.connect(cells[2].host, 9000) is Connected
    assert cells[3].host.connect(cells[3].outside, 9001) is Connected


def switch(where: Path) -> bytes:
    """What `ip` has of it: its address among it."""
    return run_in(where, lambda: process.run(["ip", "-o", "link", "show", SWITCH], timeout=10.0))


def test_a_cell_that_comes_and_goes_gives_the_switch_no_other_address(cells: CellsUnderTest) -> None:
    """The others would send to one that nobody has any more, until they look it up again: etcd would not answer for so long."""
    where = cells.segment.netns
    before = switch(where)
    ip(where, "link add lowest address 02:00:00:00:00:01 type veth peer name uplink9", f"link set lowest master {SWITCH}")
    assert switch(where) == before
    ip(where, "link del lowest")
    assert switch(where) == before


def test_a_policy_that_one_cell_stores_is_enforced_on_the_others(cells: CellsUnderTest) -> None:
    web, api = cells[2].containers(WEB, API)
    assert web.connect(api, 8080) is Refused
    cells.allow(WEB, API, "tcp/8080", at=3)
    assert web.connect(api, 8080) is Connected
    assert WEB in cells[1].cellnet("policy", "list").out


def test_cells_are_tidy_for_the_next_test(cells: CellsUnderTest) -> None:
    assert [each.attachments() for each in cells] == [[], [], []]
    assert [each.status().at("policies").text("from_store") for each in cells] == ["0", "0", "0"]


def test_a_cell_that_is_partitioned_misses_the_others_and_etcd_until_it_is_healed(cells: CellsUnderTest) -> None:
    cells[1].host.listen(9000)
    cells.partition(2)
    cells.partition(2)
    assert cells[2].host.connect(cells[1].host, 9000) is not Connected
    assert cells[3].host.connect(cells[1].host, 9000) is Connected
    eventually(lambda: troubled(cells[2]))
    assert not troubled(cells[3])
    cells.heal(2)
    cells.heal(2)
    cells.wait_well()
    assert cells[2].host.connect(cells[1].host, 9000) is Connected


def test_etcd_can_be_killed_frozen_and_started_with_what_it_had(cells: CellsUnderTest) -> None:
    cells.allow(WEB, API, "tcp/8080")
    for end in (cells.etcd.kill, cells.etcd.freeze):
        end()
        eventually(lambda: all(map(troubled, cells)))
        cells.etcd.start()
        cells.wait_well()
    assert WEB in cells[2].cellnet("policy", "list").out


def test_what_a_test_has_killed_and_cut_is_whole_for_the_next(cells: CellsUnderTest) -> None:
    cells.partition(1)
    cells.etcd.kill()
    cells[3].kill("agent")
    cells.tidy()
    assert all(each.status().flag("ok") for each in cells)


def test_a_test_has_as_many_cells_as_it_asks_for(make_cells: Callable[..., CellsUnderTest]) -> None:
    made = make_cells(2, "overlay.network=10.200.0.0/16")
    assert len(subnets(made)) == len(made) == 2
    assert all(each.startswith("10.200.") for each in subnets(made))
