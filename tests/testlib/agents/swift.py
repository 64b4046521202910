"""An agent for which time passes faster, but for the time of day: `python -m tests.testlib.agents.swift ROOT`.

What it does after half a minute of rest comes after a few seconds.
"""

import sys
from pathlib import Path

from agent.client.location import Location
from agent.daemon.clock import Clock, since_boot
from agent.daemon.main import run_agent
from tests.testlib.unsupervised_cell import ModuleAgentCell

FACTOR = 10


class SwiftCell(ModuleAgentCell):
    """A cell with such an agent."""

    module = "tests.testlib.agents.swift"


def main(root: Path) -> int:
    return run_agent(Location(root=root, config=None).load(), clock=Clock(elapsed=lambda: since_boot() * FACTOR))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
