"""Streams in tunnels as they begin and end: in the containers' own namespaces, where each is a connection with Envoy."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from typing import Final

from agent.errors import HostRefused
from dataplane.flows.event_filter import StreamFilter
from dataplane.flows.flow_events import SMALL, FlowEvent, FlowEvents
from dataplane.flows.inside import inside_each
from dataplane.state import HostState, Workload

AGAIN: Final = 0.5  # seconds between two looks which containers there are
NONE: Final[Mapping[IPv4Address, Workload]] = {}


class StreamEvents:
    """While flows are followed, one socket in each container's namespace that tunnels lead to or from. `heard` is called when
    there is something to take. What floods inside one container costs that container's events alone."""

    def __init__(self, state: Callable[[], HostState | None], *, heard: Callable[[], None]) -> None:
        self._state = state
        self._heard = heard
        self._open: dict[IPv4Address, tuple[Workload, FlowEvents]] = {}
        self._ready: dict[IPv4Address, None] = {}
        self._again = 0.0

    async def keep_up(self) -> float | None:
        """Listen in the namespaces of the containers that there are now. Gives the seconds until it is to be called again,
        None where there are no tunnels. Raises HostRefused."""
        loop, wanted = asyncio.get_running_loop(), self._wanted()
        if not wanted and not self._open:
            return None
        if self._again <= loop.time():
            self._again = loop.time() + AGAIN
            for address in [
                each for each, (of, _) in self._open.items() if wanted.get(each) is None or wanted[each].pin != of.pin
            ]:
                self._end(address)
            missing = [each for address, each in wanted.items() if address not in self._open]
            for workload, events in await asyncio.to_thread(inside_each, missing, _listen):
                if events is not None:
                    self._open[workload.address] = (workload, events)
                    loop.add_reader(events.descriptor, partial(self._note, workload.address))
        return max(self._again - loop.time(), 0.0)

    def look_anew(self) -> None:
        """At the next call, whenever the last look was."""
        self._again = 0.0

    def take(self, *, most: int) -> Iterator[tuple[IPv4Address, Collection[FlowEvent], int]]:
        """Of each container that something was heard of: its address, so many events at the most, how often some were lost."""
        loop = asyncio.get_running_loop()
        for address in list(self._ready):
            _, events = self._open[address]
            found, lost = events.take(most=most)
            del self._ready[address]
            if len(found) + lost == most:
                self._ready[address] = None  # behind all others
            else:
                loop.add_reader(events.descriptor, partial(self._note, address))
            yield address, found, lost

    @property
    def is_behind(self) -> bool:
        """Whether there is more to take."""
        return bool(self._ready)

    def close(self) -> None:
        """Listen no longer."""
        for address in list(self._open):
            self._end(address)
        self._again = 0.0

    def _wanted(self) -> Mapping[IPv4Address, Workload]:
        state = self._state()
        return NONE if state is None or not state.mutual_tls.served else state.workloads

    def _note(self, address: IPv4Address) -> None:
        asyncio.get_running_loop().remove_reader(self._open[address][1].descriptor)  # or a flood would wake the loop
        self._ready[address] = None
        self._heard()

    def _end(self, address: IPv4Address) -> None:
        _, events = self._open.pop(address)
        self._ready.pop(address, None)
        asyncio.get_running_loop().remove_reader(events.descriptor)
        events.close()


def _listen(workload: Workload) -> FlowEvents | None:
    """None where the namespace does not let it: that container's streams alone are not told."""
    with suppress(HostRefused):
        return FlowEvents(StreamFilter(workload.address), room=SMALL)
    return None
