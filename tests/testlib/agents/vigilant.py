"""An agent that looks every second at what it looks at every ten: `python -m tests.testlib.agents.vigilant ROOT`.

For tests of what only a look finds out. What an agent hears of at once must be tested with one that looks as seldom as it does.
"""

import sys
from pathlib import Path

from agent.cells import address_clashes
from agent.client.location import Location
from agent.daemon import firewall
from agent.daemon.main import run_agent
from agent.envoy import foreign_listeners, listeners
from agent.loop import drift
from lab.cell import Part
from tests.testlib.unsupervised_cell import PARTS, ModuleAgentCell

SECONDS = 1.0


class VigilantCell(ModuleAgentCell):
    """A cell with such an agent, and with what asks the outside for names."""

    module = "tests.testlib.agents.vigilant"
    parts = (*PARTS, Part.HOP)


def main(root: Path) -> int:
    address_clashes.PERIOD = drift.PERIOD = firewall.PERIOD = foreign_listeners.PERIOD = listeners.PERIOD = SECONDS
    return run_agent(Location(root=root, config=None).load())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
