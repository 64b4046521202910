"""Envoy stands still: it is told, everything that needs no Envoy goes on, and it recovers by itself."""

from collections.abc import Iterator

import pytest

from agent.errors import Unavailable
from lab.cell import Cell
from tests.testlib.attached import Attach, nothing_left
from tests.testlib.badluck import standing_still, tells
from tests.testlib.cell import CellUnderTest, eventually
from tests.testlib.footprint import expected, footprint
from tests.testlib.live import API, OTHER, Live, as_policies_say, echoed, three
from tests.testlib.netns import Netns
from tests.testlib.policed import is_reset
from tests.testlib.standpoint import Connected, Refused, pair
from tests.testlib.unsupervised import Unsupervised

LATE = f"policies:\n- {{from: {OTHER}, to: {API}, tcp: [8080, 9100]}}\n"


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return Unsupervised


@pytest.fixture
def place() -> Iterator[Netns]:
    made = Netns("more")
    yield made
    made.close()


def test_an_envoy_that_stands_still_is_told_and_only_attaches_wait_for_it(
    cell: CellUnderTest, attach: Attach, place: Netns
) -> None:
    web, api, other = three(cell)
    gone = attach("acme/shop/gone")
    live, tcp = Live(web, api), web.dial(api, 8080)
    with standing_still(cell.envoy_pid):
        eventually(lambda: tells(cell, "envoy", "has not answered for"))
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
    assert as_policies_say(web, api, other)


def footprint_without_envoy(cell: CellUnderTest) -> tuple[str, str, list[str]]:
    """What an attach would leave, without asking Envoy."""
    return cell.host.run("ip", "-o", "link"), cell.host.run("ipset", "save"), cell.attachments()
