"""A cell without `cellnet up`: its three parts by themselves, so that what was killed stays dead until it is started."""

import signal
import sys
from pathlib import Path
from typing import ClassVar

from host.namespace import NamespaceId
from lab import children, processes
from lab.cell import Cell, Part
from lab.processes import Process
from tests.testlib.patience import eventually

ROOT = Path(__file__).parents[2]
PARTS = (Part.AGENT, Part.ENVOY, Part.DNS)


class UnsupervisedCell(Cell):
    """As Cell, but for what starts it: `parts`."""

    parts: ClassVar[tuple[Part, ...]] = PARTS

    def start(self) -> None:
        """Start what does not run."""
        for part in self.parts:
            if self.part(part) is None:
                self.start_part(part)

    def start_part(self, part: Part) -> None:
        """Start one."""
        argv = [*children.CELLNET, "--root", str(self.root), part.value]
        children.start(argv, netns=self.netns, root=self.root, log=self.log)

    def stop(self) -> None:
        """SIGTERM to all."""
        running = [found for part in self.parts if (found := self.part(part))]
        for each in running:
            each.send(signal.SIGTERM)
        eventually(lambda: not any(each.lives for each in running))


class ModuleAgentCell(UnsupervisedCell):
    """Its agent is a module of testlib, run as `python -m MODULE ROOT`."""

    module: ClassVar[str]

    def start_part(self, part: Part) -> None:
        """The agent by its module."""
        if part is not Part.AGENT:
            super().start_part(part)
            return
        argv = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", self.module, str(self.root)]
        children.start(argv, netns=self.netns, root=self.root, log=self.log)

    def part(self, part: Part) -> Process | None:
        """The agent by its module."""
        if part is not Part.AGENT:
            return super().part(part)
        inside = processes.in_namespaces([NamespaceId.of(self.netns)])
        return next((each for each in inside if self.module in each.command), None)
