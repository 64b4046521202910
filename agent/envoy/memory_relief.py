"""When Envoy's memory runs out, the container whose connections hold most of it loses those: not the others their new calls.

Which these are: `dataplane/envoy/sockets/stuck_connections.py`. Envoy is asked for nothing here, since all that it could end it
has.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from agent import log
from agent.envoy.listeners import Served
from dataplane.envoy.sockets.stuck_connections import StuckConnection

EVERY = 0.5  # seconds
FULL: Final = 80  # percent of the heap
CONFIRM_SECONDS = 0.3  # a reader that is only slow has read by then
FEW: Final = 8  # stuck connections; they are not what has filled it

Find = Callable[[Mapping[IPv4Address, Path]], tuple[StuckConnection, ...]]


class MemoryRelief:
    """`heap` is how full Envoy's is, in percent; `find` and `end` block; `on_relief` hears how many were ended, and whose."""

    def __init__(
        self,
        served: Callable[[], Served],
        *,
        heap: Callable[[], int],
        find: Find,
        end: Callable[[Iterable[StuckConnection]], int],
        on_relief: Callable[[int, str], None],
    ) -> None:
        self._served = served
        self._heap = heap
        self._find = find
        self._end = end
        self._on_relief = on_relief
        self._log = log.get("memory_relief")

    async def run(self) -> None:
        """Look for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(EVERY)
            if self._heap() >= FULL:
                await self.relieve()

    async def relieve(self) -> None:
        """End what the container to blame for most has stuck."""
        containers = {each.address: port.pin for port, each in self._served().items()}
        before = await asyncio.to_thread(self._find, containers)
        if len(before) < FEW:
            return
        await asyncio.sleep(CONFIRM_SECONDS)
        known = {each.socket.id for each in before}
        stuck = [each for each in await asyncio.to_thread(self._find, containers) if each.socket.id in known]
        seen = [each for each in stuck if each.seen]
        # else it is another cell's, and only what is for it can be seen
        blamed = _most_blamed(seen) or _most_blamed(each for each in stuck if not each.seen)
        if blamed is None:
            return
        ended = await asyncio.to_thread(self._end, [each for each in stuck if each.blamed == blamed])
        name = containers[blamed].name if blamed in containers else str(blamed)
        self._log.warning("stuck_connections_ended", container=name, address=str(blamed), count=ended)
        self._on_relief(ended, f"{ended} connections of {name} ({blamed}), which does not read and held Envoy's memory")


def _most_blamed(stuck: Iterable[StuckConnection]) -> IPv4Address | None:
    for blamed, count in Counter(each.blamed for each in stuck).most_common(1):
        return blamed if count >= FEW else None
    return None
