"""Whether Envoy's main thread answers. A connection alone does not show it: a process that is stopped or stuck keeps it.

An Envoy that is stuck for a minute is ended by its own watchdog (dataplane/envoy/process/bootstrap.py) and started again by its
supervisor; one that is only stopped goes on where it was. Here it is noticed, so that an attach is refused at once with the
reason.
"""

import asyncio
from collections.abc import Callable

from agent.errors import Unavailable
from agent.model.status import Part, Problem, as_problems

EVERY = 2.0  # seconds


class Liveness(Part):
    """`ask` blocks until Envoy has answered or raises Unavailable; `clock` is in seconds and never jumps."""

    def __init__(self, ask: Callable[[], None], *, connected: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._connected = connected
        self._clock = clock
        self._silent_since: float | None = None

    def problems(self) -> tuple[Problem, ...]:
        """That it is connected and does not answer."""
        return as_problems("envoy", self.problem)

    async def run(self) -> None:
        """Ask for ever. Ends only by cancellation."""
        while True:
            asked = self._clock()
            try:
                if self._connected():
                    await asyncio.to_thread(self._ask)
                self._silent_since = None
            except Unavailable:
                if self._silent_since is None:
                    self._silent_since = asked
            await asyncio.sleep(EVERY)

    @property
    def problem(self) -> Unavailable | None:
        """Why Envoy cannot serve, while it is connected and does not answer."""
        if self._silent_since is None or not self._connected():
            return None
        return Unavailable(
            f"Envoy is connected, but has not answered for {self._clock() - self._silent_since:.0f} s",
            hint="see whether it is stopped (`ps -C envoy -o pid,stat`) or starved; rules are enforced without it",
        )
