"""A `cellnet up` that starts again after the same moment what has ended, however often that was: `python -m
tests.testlib.agents.prompt --root ROOT up`.

For tests that kill again and again, and would wait most of their time for what doubles each time.
"""

import signal
import sys
from pathlib import Path

from agent.cli.main import run
from agent.daemon import up
from host.namespace import NamespaceId
from lab import children, processes
from lab.cell import Cell, Part
from lab.processes import Process

ROOT = Path(__file__).parents[3]
MODULE = "tests.testlib.agents.prompt"


class PromptCell(Cell):
    """A cell with such an `up`."""

    def start(self) -> None:
        """As Cell does."""
        frozen = self.part(Part.UP)
        if frozen is not None:
            frozen.send(signal.SIGCONT)
            return
        argv = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", MODULE, "--root", str(self.root), "up"]
        children.start(argv, netns=self.netns, root=self.root, log=self.log)

    def part(self, part: Part) -> Process | None:
        """`up` by its module."""
        if part is not Part.UP:
            return super().part(part)
        found = [each for each in processes.in_namespaces([NamespaceId.of(self.netns)]) if each.command[3:4] == (MODULE,)]
        # a child that has not yet become its own program still has its parent's command line
        return next((each for each in found if each.parent not in [other.pid for other in found]), None)


if __name__ == "__main__":
    up.LONGEST_WAIT = up.FIRST_WAIT
    sys.exit(run(sys.argv[1:]))
