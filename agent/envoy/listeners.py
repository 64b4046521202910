"""Reading Envoy's listeners back: what Envoy has acknowledged must be open in the container's own socket table.

Root in a container can destroy any socket in there (`ss -K`), Envoy's too. Envoy does not notice: it keeps turning on the dead
socket, and no caller gets in. So the kernel is asked, and Envoy made to give the listener up and then to take it again; not to
take it again for a while if that happens too often. Apart from the loop's own look, which must never wait for a container.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from agent import log
from agent.envoy.repeat_offenders import RepeatOffenders
from agent.errors import HostRefused, Unavailable
from agent.model.status import Part, Problem
from dataplane.envoy.ads.ads import AdsServer
from dataplane.envoy.ads.resource import ResourceKey
from dataplane.envoy.sockets.container_ports import ContainerPort, closed_ports
from dataplane.envoy.translation import KINDS, listener_key

PERIOD = 10.0  # seconds between looks
CONFIRM_SECONDS = 2.0  # between finding and believing it: Envoy acknowledges a listener before it has bound it
REPAIR_SECONDS = 5.0  # for each half of a repair
CLOSE_SECONDS = 0.5  # from Envoy's word that a listener is gone until its workers have closed it
POLL = 0.1


@dataclass(frozen=True, slots=True)
class ServedListener:
    """One that should be open, of the container at `address`: its key in Envoy's table, and the versions of what it needs."""

    address: IPv4Address
    key: ResourceKey
    versions: Mapping[ResourceKey, str | None]


Served = Mapping[ContainerPort, ServedListener]


class TlsState(Enum):
    """How far TLS of one attachment is: listening, waiting for Envoy or a certificate, refused by Envoy, or listening with a
    certificate that has ended."""

    READY = "ready"
    WAITING = "waiting"
    REFUSED = "refused"
    EXPIRED = "expired"


class Listeners(Part):
    """`served` is asked at each look; `workers` are Envoy's threads; `on_repair` hears of each that was repaired.

    `clock` is in seconds and never jumps.
    """

    def __init__(
        self,
        served: Callable[[], Served],
        *,
        ads: AdsServer,
        workers: int,
        clock: Callable[[], float],
        on_repair: Callable[[str], None],
    ) -> None:
        self._served = served
        self._ads = ads
        self._workers = workers
        self._on_repair = on_repair
        self._log = log.get("listeners")
        self.closed: frozenset[ContainerPort] = frozenset()  # as of the last look
        self._unseen: frozenset[ContainerPort] = frozenset()  # not yet found open since the newest Envoy has connected
        self._connections = 0
        self._offenders = RepeatOffenders[ContainerPort](clock)
        self._given_up: Served = {}  # withheld from Envoy, or its workers would turn on the dead sockets

    def problems(self) -> Iterator[Problem]:
        """Ports that are not open, each by its container, and those of an Envoy that has just connected."""
        unseen = self._unseen_ports() - self.closed
        if unseen and self._ads.status().connected:
            yield Problem(
                "envoy",
                f"Envoy has just connected: {len(unseen)} of its ports in containers are not seen open yet",
                "wait a moment",
            )
        for port in sorted(self._given_up.keys() & self._served().keys()):
            what = f"{port.pin.name}: a program inside keeps closing Envoy's port {port.number}, which stays closed for a while"
            yield Problem("envoy", what, "it runs as root in there and destroys sockets (`ss -K`): end it")
        for port in sorted((self.closed & self._served().keys()) - self._given_up.keys()):
            hint = "Envoy is made to open it again; if this stays, see Envoy's log, and `ss -ltn` inside"
            yield Problem("envoy", f"{port.pin.name}: Envoy's port {port.number} is not open, though Envoy has it", hint)

    def tls_state(self, address: IPv4Address) -> TlsState:
        """How far the listeners of one container are, as of the last look."""
        status = self._ads.status()
        if any(listener_key(address, kind) in status.refused for kind in KINDS):
            return TlsState.REFUSED
        awaited = self.closed | self._unseen_ports()
        served = self._served() if awaited else {}
        is_open = not any(port in served and served[port].address == address for port in awaited)
        return TlsState.READY if status.connected and is_open else TlsState.WAITING

    def _unseen_ports(self) -> AbstractSet[ContainerPort]:
        connections = self._ads.status().connections
        if connections != self._connections:
            self._connections, self._unseen = connections, frozenset(self._served())
        elif self._unseen:
            self._unseen &= self._served().keys()
        return self._unseen

    async def unserved(self, ports: Collection[ContainerPort]) -> frozenset[ContainerPort]:
        """Those where Envoy does not serve callers yet: it has not taken all that this needs, or does not listen."""
        served = self._served()
        taken = frozenset(port for port in ports if port in served and self._has(served[port]))
        return (frozenset(ports) - taken) | await self._closed_ports(taken)

    async def run(self) -> None:
        """Ends only by cancellation."""
        due = 0.0
        while True:
            await asyncio.sleep(POLL)
            due += POLL
            await self.await_open()
            if due >= PERIOD:
                due = 0.0
                await self.look()

    async def await_open(self) -> None:
        """Look for the ports of an Envoy that has connected since the last look."""
        unseen = self._unseen_ports() - self._given_up.keys()
        if unseen and self._ads.status().connected:
            closed = await self._closed_ports(unseen)
            taken = {port for port, each in self._served().items() if self._has(each)}
            self._unseen -= (unseen & taken) - closed

    async def look(self) -> None:
        """Find what is closed, and have it opened again."""
        served = self._served()
        self._offenders.keep(served)
        self._given_up = {port: each for port, each in self._given_up.items() if port in served}
        self._give_back(self._given_up.keys() - self._offenders.paused())
        suspects = await self._closed_ports(served.keys() - self._given_up.keys())
        if suspects:
            await asyncio.sleep(CONFIRM_SECONDS)
        found = await self._still_closed(suspects)
        for port in sorted(found - self.closed):
            self._log.warning("listener_closed", address=str(port.address), port=port.number)
        self.closed = found | self._given_up.keys()
        served = self._served()
        lost = {port: served[port] for port in found & served.keys() if self._has(served[port])}
        if lost:
            await self._take_back(lost)
            await self._await_repair(lost.keys() - self._given_up.keys())

    def _has(self, listener: ServedListener) -> bool:
        """Whether Envoy has all that this one needs; what is given up of the same container is nothing that it could have."""
        given_up = {each.key for each in self._given_up.values()}
        return self._ads.has({key: version for key, version in listener.versions.items() if key not in given_up})

    async def _take_back(self, lost: Served) -> None:
        """Returns when Envoy has closed these: given back sooner, it would listen on the dead sockets once more."""
        for port in lost:
            self._offenders.add(port)
        absent = {each.key: None for each in lost.values()}
        self._ads.withhold(absent.keys() | {each.key for each in self._given_up.values()})
        try:
            with contextlib.suppress(Unavailable, HostRefused):
                await self._ads.settled(absent, timeout=REPAIR_SECONDS)
            await asyncio.sleep(CLOSE_SECONDS)
        finally:
            paused = self._offenders.paused()
            for port in sorted(lost.keys() & paused):
                self._log.warning("listener_given_up", address=str(port.address), port=port.number)
            self._given_up = {**self._given_up, **{port: each for port, each in lost.items() if port in paused}}
            self._give_back(lost.keys() - paused)

    def _give_back(self, ports: AbstractSet[ContainerPort]) -> None:
        """Envoy may have these again."""
        self._given_up = {port: each for port, each in self._given_up.items() if port not in ports}
        self._ads.withhold({each.key for each in self._given_up.values()})

    async def _await_repair(self, lost: AbstractSet[ContainerPort]) -> None:
        left: Collection[ContainerPort] = lost
        for _ in range(round(REPAIR_SECONDS / POLL)):
            await asyncio.sleep(POLL)
            left = await self._still_closed(lost)
            if not left:
                break
        repaired = lost - frozenset(left)
        for port in sorted(repaired):
            self._log.info("listener_repaired", address=str(port.address), port=port.number)
            self._on_repair(f"Envoy's port {port.number} of {port.pin.name} opened again")
        self.closed -= repaired

    async def _still_closed(self, suspects: AbstractSet[ContainerPort]) -> frozenset[ContainerPort]:
        """Those of them that should be open and are not."""
        return await self._closed_ports(suspects & self._served().keys()) if suspects else frozenset()

    async def _closed_ports(self, ports: Collection[ContainerPort]) -> frozenset[ContainerPort]:
        """An Envoy that is not there has nothing open, and that is reported already."""
        if not ports or not self._ads.status().connected:
            return frozenset()
        return await asyncio.to_thread(closed_ports, tuple(ports), sockets=self._workers)
