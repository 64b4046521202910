"""A cell whose agent can be killed before any of its effects: store, files, mounts, kernel, Envoy, its answer to a client."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from lab import children
from lab.cell import Part
from tests.testlib import trap
from tests.testlib.effects import Effects, descriptor_of
from tests.testlib.unsupervised import Unsupervised


class HeldUp(Unsupervised):
    """As Unsupervised; its agent is started inside the trap of trap.py, and is otherwise the same program."""

    _effects: ClassVar[dict[Path, Effects]] = {}

    @property
    def effects(self) -> Effects:
        """Those of the agent that was started last."""
        return self._effects[self.root]

    def start_part(self, part: Part, *, killed_before: int | None = None) -> None:
        """Start one; the agent is killed before its effect of that number, if it comes to that."""
        if part is not Part.AGENT:
            super().start_part(part)
            return
        here, there = socket.socketpair()
        with here:
            pid = self._start_agent(there)
            listener = int.from_bytes(here.recv(4), "little")
            self._effects[self.root] = Effects(pid, descriptor_of(pid, listener))
            self.effects.die_before(killed_before, with_tools=False)
            here.send(b"!")

    def _start_agent(self, answering: socket.socket) -> int:
        words = [*children.CELLNET, "--root", str(self.root), Part.AGENT.value]
        trapped = [sys.executable, "-IS", trap.__file__, str(answering.fileno()), *words]
        with self.log.open("ab") as log, answering:
            return subprocess.Popen(
                ["nsenter", f"--net={self.netns}", "--", *trapped], pass_fds=[answering.fileno()], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=children.environment(self.root), start_new_session=True, umask=0o022,
            ).pid  # fmt: skip
