"""A cell whose agent can be killed before any of its effects: store, files, mounts, kernel, Envoy, its answer to a client."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from lab.cell import Part
from lab.processes import Process
from tests.testlib.crashes.effects import Effects
from tests.testlib.crashes.fork_server import ForkServer, KillableProcess, RunCommand, fork_server
from tests.testlib.unsupervised_cell import UnsupervisedCell


class KillableCell(UnsupervisedCell):
    """As Unsupervised; its agents are forked, which takes a tenth of the time, and are otherwise the same program."""

    fork_server: ClassVar[ForkServer]
    _agents: ClassVar[dict[Path, KillableProcess]] = {}

    @property
    def effects(self) -> Effects:
        """Those of the agent that was started last."""
        return self._agents[self.root].effects

    def part(self, part: Part) -> Process | None:
        """As Cell.part; a forked agent has its parent's command line."""
        if part is not Part.AGENT:
            return super().part(part)
        return Process.of(self._agents[self.root].pid) if self.root in self._agents else None

    def start_part(self, part: Part, *, killed_before: int | None = None) -> None:
        """Start one; the agent is killed before its effect of that number, if it comes to that."""
        if part is not Part.AGENT:
            super().start_part(part)
            return
        if self.root in self._agents:
            self._agents.pop(self.root).forget()
        made = self._agents[self.root] = self.fork_server.fork(RunCommand(self.root, self.netns, self.log))
        made.go(killed_before=killed_before, with_tools=False)


@contextmanager
def killable_cells() -> Iterator[type[KillableCell]]:
    """The kind of cell, for as long as such cells are needed."""
    with fork_server(loads="agent.daemon.main agent.cli.this_cell.daemons agent.config.load") as KillableCell.fork_server:
        yield KillableCell
