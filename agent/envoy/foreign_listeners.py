"""Programs in containers that listen on a TLS port beside Envoy: their sockets are destroyed, and `status` names the container.

Root inside can make new ones for ever. After a few times the container is left alone for a while: only its own calls are taken.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial

from agent import log
from agent.envoy.listeners import Served
from agent.model.status import Part, Problem
from agent.pacing import Backoff
from dataplane.envoy.container_ports import ContainerPort

PERIOD = 10.0  # seconds between looks
TIMES, WITHIN = 3, 300.0  # so often in so many seconds, and it is left alone
FIRST_PAUSE, LONGEST_PAUSE = 300.0, 4800.0  # doubled from one to the other
FORGOTTEN_AFTER = 3600.0  # of quiet


@dataclass(slots=True)
class _Offender:
    """The times of the last few sockets at one port, and the end of its pause."""

    times: deque[float] = field(default_factory=partial(deque, maxlen=TIMES))
    pauses: Backoff = field(default_factory=partial(Backoff, first=FIRST_PAUSE, longest=LONGEST_PAUSE))
    paused_until: float = 0.0

    def add(self, now: float) -> None:
        self.times.append(now)
        if len(self.times) == TIMES and now - self.times[0] < WITHIN:
            self.times.clear()
            self.paused_until = now + self.pauses.next()

    def last(self) -> float:
        return max(self.paused_until, *self.times, 0.0)


class ForeignListeners(Part):
    """`destroy` destroys the sockets at some ports that are not Envoy's and returns where there were any; it blocks.

    `clock` is in seconds and never jumps; `on_repair` hears of each port that was cleared.
    """

    def __init__(
        self,
        served: Callable[[], Served],
        *,
        destroy: Callable[[Collection[ContainerPort]], frozenset[ContainerPort]],
        clock: Callable[[], float],
        on_repair: Callable[[str], None],
    ) -> None:
        self._served = served
        self._destroy = destroy
        self._clock = clock
        self._on_repair = on_repair
        self._log = log.get("listeners")
        self._offenders: dict[ContainerPort, _Offender] = {}

    def problems(self) -> Iterator[Problem]:
        """The containers that are left alone."""
        for port in sorted(port for port in self._offenders.keys() & self._served().keys() if self._is_paused(port)):
            what = f"{port.pin.name}: a program inside keeps listening on port {port.number} beside Envoy and takes its calls"
            yield Problem("envoy", what, "it runs under the number of Envoy's user: end it, see `ss -ltnpe` inside")

    async def run(self) -> None:
        """Look for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.look()

    async def look(self) -> None:
        """Destroy what listens beside Envoy, and count it."""
        served, now = self._served().keys(), self._clock()
        self._offenders = {
            port: each
            for port, each in self._offenders.items()
            if port in served and now - each.last() < FORGOTTEN_AFTER
        }  # fmt: skip
        due = tuple(port for port in served if not self._is_paused(port))
        for port in sorted(await asyncio.to_thread(self._destroy, due)):
            self._offenders.setdefault(port, _Offender()).add(now)
            self._log.warning("foreign_listener_destroyed", address=str(port.address), port=port.number)
            self._on_repair(f"Envoy's port {port.number} of {port.pin.name} cleared of another program's socket")

    def _is_paused(self, port: ContainerPort) -> bool:
        return port in self._offenders and self._clock() < self._offenders[port].paused_until
