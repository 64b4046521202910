"""Libraries that fail unexpectedly: the agent lives on, what is allowed stays allowed, and all comes right by itself."""

from collections.abc import Iterator

import pytest

from agent.errors import Bug, HostRefused, Unavailable
from lab.cell import Cell
from tests.testlib.agents.faulty import CALLS, WORDS, FaultyCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections
from tests.testlib.containers import Attach
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, policies, three_apps
from tests.testlib.status import problems

LATE = policies(f"from: {OTHER}, to: {API}, tcp: [8080, 9100]")


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return FaultyCell


@pytest.fixture(autouse=True)
def one_agent(cell: CellUnderTest) -> Iterator[None]:
    """The same one from the first to the last."""
    before = cell.agent_pid
    yield
    assert cell.agent_pid == before


@pytest.mark.parametrize("name", CALLS)
def test_a_library_that_fails_unexpectedly_is_reported_and_nothing_ends(cell: CellUnderTest, attach: Attach, name: str) -> None:
    assert isinstance(cell.lab, FaultyCell)
    web, api, other = three_apps(cell)
    live, refused = LiveConnections(web, api), ""
    with cell.lab.failing(name):
        cell.policy_file("late.yaml", LATE, sync=False)
        try:
            attach("acme/shop/more")
        except (HostRefused, Unavailable, Bug) as error:
            refused = error.what
        eventually(lambda: WORDS in f"{refused} {problems(cell)}")
        assert live.go_on()
        assert (api.connect(web, 8080), web.connect(api, 8080)) == (Refused, Connected)
    cell.policy_file("late.yaml", f"{LATE}# a file is read again when it changes\n", sync=False)
    cell.wait_well()
    cell.sync()
    assert "more" in cell.attachments() or attach("acme/shop/more")
    assert live.go_on()
    assert other.connect(api, 8080) is Connected
