"""Whether anything in the destination takes the call, and where else it would."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from agent.errors import HostRefused
from agent.insight.explain.way import AskedWay, WayStep
from agent.model.attachment import Attachment
from agent.model.cell import Endpoint
from agent.model.policy import Protocol
from dataplane.flows.served import LOOPBACK, PortLook, ServicePort
from dataplane.tables import LOOPBACK_LINK


class ListenerSteps:
    """`pins` is the folder of this cell's namespaces; `attached` are the containers in them."""

    def __init__(self, *, cell: str, pins: Path, attached: Callable[[], Iterable[Attachment]]) -> None:
        self._cell = cell
        self._pins = pins
        self._attached = attached

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """A step for each instance of the destination."""
        if way.protocol is Protocol.ICMP:
            return ()
        called = [each for each in way.called if each.cell not in way.answered]
        return [await self._one(each, way) if each.cell == self._cell else _elsewhere(each, way) for each in called]

    async def _one(self, to: Endpoint, way: AskedWay) -> WayStep:
        held = next((each for each in self._attached() if each.name == to.name), None)
        if held is None:
            return WayStep("listener", None, f"{to.name} is being attached or detached")
        place = ServicePort(self._pins / held.name, held.interface, held.address, way.port, way.protocol.value)
        inside = replace(place, interface=LOOPBACK_LINK, address=LOOPBACK)
        try:
            served, alone = await asyncio.to_thread(lambda: (_is_served(place), _is_served(inside)))
        except HostRefused as error:
            return WayStep("listener", None, error.what, error.hint)
        if served:
            return WayStep("listener", True, f"{to.name} serves {way.service}")
        if alone:
            what = f"{to.name} serves {way.service} on 127.0.0.1 only, where nobody else reaches it"
            return WayStep("listener", False, what, "have the app listen on 0.0.0.0")
        hint = "see that the app runs, and on which port"
        return WayStep("listener", False, f"nothing in {to.name} serves {way.service}", hint)


def _elsewhere(to: Endpoint, way: AskedWay) -> WayStep:
    """Of another cell's instance its first port is known, which decides whether names lead to it."""
    first = next(iter(to.ports), None)
    if first is not None and (first.protocol, first.number) == (way.protocol.value, way.port):
        if to.ready:
            return WayStep("listener", True, f"{to.name} serves {way.service}, as {to.cell} says")
        hint = f"ask there: cellnet explain {way.source} {way.to} {way.service}"
        return WayStep("listener", False, f"nothing in {to.name} serves {way.service} yet, as {to.cell} says", hint)
    return WayStep("listener", None, f"{to.name} runs on {to.cell}, and what listens in it is seen there alone")


def _is_served(place: ServicePort) -> bool:
    look = PortLook(place)
    try:
        return look.is_served()
    finally:
        look.close()
