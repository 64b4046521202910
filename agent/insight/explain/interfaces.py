"""Whether containers still have their own end of the link: root inside may have taken it down, or taken its routes away."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from agent.insight.explain.told import INTERFACE
from agent.insight.explain.way import AskedWay, WayStep
from agent.loop.known_kernel import Applied
from agent.model.cell import Endpoint
from dataplane.netlink import interior

MOST: Final = 32  # that are looked at
HINT: Final = "start the container again; where it is called through tunnels, the agent mends it within seconds"


class InterfaceSteps:
    """Of the instances on this cell. `applied` is what the last turn has made, None while one goes on."""

    def __init__(self, applied: Callable[[], Applied | None], *, cell: str) -> None:
        self._applied = applied
        self._cell = cell

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """A step for each that is not as it was made, where nothing gets through."""
        applied = self._applied()
        if applied is None:
            return ()
        made = applied.tables.interiors
        ends = dict.fromkeys(each for each in (*way.called, *way.callers) if each.cell == self._cell and each.address in made)
        return await asyncio.to_thread(lambda: [step for each in tuple(ends)[:MOST] for step in _steps(each, applied)])


def _steps(end: Endpoint, applied: Applied) -> Iterable[WayStep]:
    wanted = applied.tables.interiors[end.address]
    try:
        missing = interior.obstacle(end.address, wanted)
    except OSError:  # it is being detached, or its root keeps the kernel busy
        return
    if missing:
        yield WayStep(INTERFACE, False, f"{wanted.interface} in {end.name} {missing}, so nothing comes in or goes out", HINT)
