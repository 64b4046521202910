"""A cell without `cellnet up`: agent and Envoy by themselves, so that what was killed stays dead until a test starts it."""

import signal

from lab import children
from lab.cell import Cell, Part
from tests.testlib.patience import eventually

PARTS = (Part.AGENT, Part.ENVOY)


class UnsupervisedCell(Cell):
    """As Cell, but for what starts it."""

    def start(self) -> None:
        """Start what does not run."""
        for part in PARTS:
            if self.part(part) is None:
                self.start_part(part)

    def start_part(self, part: Part) -> None:
        """Start one."""
        argv = [*children.CELLNET, "--root", str(self.root), part.value]
        children.start(argv, netns=self.netns, root=self.root, log=self.log)

    def stop(self) -> None:
        """SIGTERM to both."""
        running = [found for part in PARTS if (found := self.part(part))]
        for each in running:
            each.send(signal.SIGTERM)
        eventually(lambda: not any(each.lives for each in running))
