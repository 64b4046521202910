"""Programs in containers that listen on a port of Envoy's beside it: their sockets are destroyed, the container is named.

Root inside can make new ones for ever. After a few times the container is left alone for a while: only its own calls are taken.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator

from agent import log
from agent.envoy.listeners import Served
from agent.envoy.repeat_offenders import RepeatOffenders
from agent.model.status import Part, Problem
from dataplane.envoy.sockets.container_ports import ContainerPort

PERIOD = 10.0  # seconds between looks


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
        self._on_repair = on_repair
        self._log = log.get("listeners")
        self._offenders = RepeatOffenders[ContainerPort](clock)

    def problems(self) -> Iterator[Problem]:
        """The containers that are left alone."""
        for port in sorted(self._offenders.paused() & self._served().keys()):
            what = f"{port.pin.name}: a program inside keeps listening on port {port.number} beside Envoy and takes its calls"
            yield Problem("envoy", what, "it runs under the number of Envoy's user: end it, see `ss -ltnpe` inside")

    async def run(self) -> None:
        """Look for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.look()

    async def look(self) -> None:
        """Destroy what listens beside Envoy, and count it."""
        served = self._served().keys()
        self._offenders.keep(served)
        for port in sorted(await asyncio.to_thread(self._destroy, tuple(served - self._offenders.paused()))):
            self._offenders.add(port)
            self._log.warning("foreign_listener_destroyed", address=str(port.address), port=port.number)
            self._on_repair(f"Envoy's port {port.number} of {port.pin.name} cleared of another program's socket")
