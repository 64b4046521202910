"""Envoy stands still: that is reported, everything that needs no Envoy goes on, and it recovers by itself."""

from collections.abc import Iterator

import pytest

from agent.errors import Unavailable
from lab.cell import Cell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections, echoed, is_reset
from tests.testlib.containers import Attach
from tests.testlib.failures import suspended
from tests.testlib.footprint import expected, footprint, nothing_left
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, follows_policy, three_apps
from tests.testlib.status import reports
from tests.testlib.unsupervised_cell import UnsupervisedCell

LATE = f"policies:\n- {{from: {OTHER}, to: {API}, tcp: [8080, 9100]}}\n"


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return UnsupervisedCell


@pytest.fixture
def place() -> Iterator[Netns]:
    made = Netns("more")
    yield made
    made.close()


def test_an_envoy_that_hangs_is_reported_and_only_attaches_wait_for_it(
    cell: CellUnderTest, attach: Attach, place: Netns
) -> None:
    web, api, other = three_apps(cell)
    gone = attach("acme/shop/gone")
    live, tcp = LiveConnections(web, api), web.dial(api, 8080)
    with suspended(cell.envoy_pid):
        eventually(lambda: reports(cell, "envoy", "has not answered for"))
        rules, pins = cell.rules(), footprint_without_envoy(cell)
        with pytest.raises(Unavailable, match="is connected, but has not answered"):
            attach("acme/shop/more", to=place)
        assert (cell.rules(), footprint_without_envoy(cell)) == (rules, pins)
        assert "eth0" not in place.run("ip", "-o", "link")
        cell.policy_file("late.yaml", LATE)
        late = pair(other, api, 9100)
        assert other.connect(api, 8080) is Connected
        cell.remove_policy_file("late.yaml")
        assert all(map(is_reset, late))
        assert other.connect(api, 8080) is Refused
        assert gone.stop() == 0
        assert "gone" not in cell.attachments()
        assert echoed(tcp)
    cell.wait_well()
    assert live.go_on()
    eventually(lambda: footprint(cell) == expected(cell))
    with nothing_left(cell, place):
        attach("acme/shop/more", to=place).stop()
    assert follows_policy(web, api, other)


def footprint_without_envoy(cell: CellUnderTest) -> tuple[str, str, list[str]]:
    """What an attach would leave, without asking Envoy."""
    return cell.host.run("ip", "-o", "link"), cell.host.run("ipset", "save"), cell.attachments()
