"""More changes than inotify keeps: what was reported is incomplete, what is in force is what the directory holds in the end."""

import os
from pathlib import Path

import pytest

from lab.cell import Cell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections, is_reset
from tests.testlib.failures import suspended
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, three_apps
from tests.testlib.unsupervised_cell import UnsupervisedCell

LATE = f"policies:\n- {{from: {OTHER}, to: {API}, tcp: 9100}}\n"
LAST = f"policies:\n- {{from: {API}, to: {WEB}, tcp: 8080}}\n"
KEPT = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return UnsupervisedCell


def test_after_an_overflow_the_directory_is_in_force_as_it_is(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    cell.policy_file("late.yaml", LATE)
    live, late = LiveConnections(web, api), pair(other, api, 9100)
    one, two = cell.lab.policies / "noise.yaml", cell.lab.policies / "noise-too.yaml"
    with suspended(cell.agent_pid):
        one.write_text("policies: []\n")
        for _ in range(int(KEPT.read_text()) // 4 + 500):  # two events each way
            os.rename(one, two)
            os.rename(two, one)
        cell.remove_policy_file("late.yaml", sync=False)
        cell.policy_file("last.yaml", LAST, sync=False)
    eventually(lambda: all(map(is_reset, late)))
    assert other.connect(api, 9100) is Refused
    eventually(lambda: api.connect(web, 8080) is Connected)
    assert live.go_on()
    assert cell.wait_well().at("policies").text("files") == "3"
