"""Whether the hop is wanted, for the hop: a file that is there while a right of a container here is one to names outside.

It is written in the turn that enforces such a right, before a caller hears of it, so that what waits in the hop's place never
denies a name that a policy allows. What cannot be written is a problem in `status`, and never the end of a turn.
"""

from collections.abc import Callable
from pathlib import Path

from agent import log
from agent.complaint import Complaints
from agent.dns.asked_names import wants_names
from agent.errors import HostRefused
from agent.model.status import Part, Problem
from dataplane.state import HostState
from host import durable
from host.errors import refused_as


class HopCalls(Part):
    """One per loop. `clock` never jumps."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._wanted: bool | None = None  # None where the file must be looked at
        self.since = clock()
        """When names came to be wanted, or the agent's start."""
        self._failure = Complaints(log.get("dns"), failed="hop_not_called", recovered="hop_called")

    def problems(self) -> tuple[Problem, ...]:
        """That the file could not be written."""
        return tuple(Problem("dns", each.what, each.hint) for each in self._failure.standing.values())

    def follow(self, state: HostState) -> None:
        """Have the file there, or not."""
        wanted = wants_names(state)
        if self._path is None or wanted == self._wanted:
            return
        try:
            with refused_as(f"cannot write {self._path}", hint="see `df` and `ls -la`"):
                self._write(self._path, wanted=wanted)
        except HostRefused as error:
            self._wanted = None
            self._failure.about(error)
            return
        self._wanted = wanted
        self._failure.over()

    def look(self) -> bool:
        """Look at the file; False if a turn has to mend it."""
        if self._path is None or self._wanted == self._path.exists():
            return True
        self._wanted = None
        return False

    def _write(self, path: Path, *, wanted: bool) -> None:
        if wanted and not path.exists():
            durable.make_folder(path.parent, mode=0o755)
            durable.replace(durable.Write(path, b"", durable.PUBLIC), lasting=False)
            self.since = self._clock()
        if not wanted:
            path.unlink(missing_ok=True)
