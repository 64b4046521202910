"""Whether pins outlive the agent: in a mount namespace that others do not share they end with it, and containers with them.

`host/lasting_mounts.py` makes them among the mounts of process 1 as well. Where that cannot be, as another folder lies there,
nothing new is attached: the next agent, and Envoy, would not find it. What is attached is enforced on.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from agent.errors import HostRefused
from agent.model.status import Part, Problem, as_problems
from host.lasting_mounts import outlive


class LastingPins(Part):
    """`pins` is their folder; it must be there when this is first asked."""

    def __init__(self, pins: Path, *, look: Callable[[Path], bool] = outlive) -> None:
        self._pins = pins
        self._look = look
        self._outlive: bool | None = None

    def problems(self) -> Iterator[Problem]:
        """That they do not."""
        yield from as_problems("kernel", self.refusal())

    def refusal(self) -> HostRefused | None:
        """Why nothing is attached, where a pin would end with the agent; looked at once, as an agent's mounts stay its own."""
        if self._outlive is None:
            self._outlive = self._look(self._pins)
        if self._outlive:
            return None
        what = f"{self._pins} is another folder for this agent than for the host: what is attached would be lost at its end"
        hint = "start the agent without mounts of its own over its folders (`findmnt -N 1` shows the host's)"
        return HostRefused(what, hint=hint)
