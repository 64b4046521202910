"""An agent whose folder of pins is its own alone: nothing new is attached there, and what is attached is enforced on."""

from collections.abc import Callable
from contextlib import suppress

from agent.errors import Unavailable
from lab import children
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import echoed
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import three_apps

PRIVATE = 'mount -t tmpfs cellnet-test "$1/run/cellnet/netns" && shift && exec "$@"'
WHAT = "is another folder for this agent than for the host"


def start_with_own_pins(cell: CellUnderTest) -> None:
    """Start `up` where a folder of its own lies over the pins."""
    cell.stop()
    root = str(cell.lab.root)
    words = ["unshare", "--mount", "sh", "-c", PRIVATE, "private", root, *children.CELLNET, "--root", root, "up"]
    children.start(words, netns=cell.lab.netns, root=cell.lab.root, log=cell.lab.log)


def is_told(cell: CellUnderTest) -> bool:
    with suppress(Unavailable):
        return WHAT in str(cell.status().at("problems"))
    return False


def test_nothing_new_is_attached_where_pins_end_with_the_agent_and_rules_stay(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell()
    web, api, other = three_apps(cell)
    tcp = web.dial(api, 8080)
    start_with_own_pins(cell)
    eventually(lambda: is_told(cell))
    refused = cell.cellnet("run", "--app", "acme/shop/late", "--", "true", code=1)
    assert WHAT in refused.err
    assert "start the agent without mounts of its own" in refused.err
    assert (web.connect(api, 8080), other.connect(api, 8080)) == (Connected, Refused)
    assert echoed(tcp)
