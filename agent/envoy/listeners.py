"""Reading Envoy's listeners back: what Envoy says that it serves must be open in the container's own socket table.

Whoever is root in a container can destroy any socket in there (`ss -K`), Envoy's too. Envoy does not notice: it keeps turning
on the dead socket, and nobody gets in. So the kernel is asked, and Envoy made to give the listener up and then to take it
again. Apart from the loop's own look, which must never wait for a container.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path

from agent import log
from agent.errors import HostRefused, Unavailable
from agent.model.status import Part, Problem
from dataplane.envoy.ads import AdsServer
from dataplane.envoy.listening import not_open
from dataplane.envoy.resource import ResourceKey
from dataplane.envoy.resources import listener_key

PERIOD = 10.0  # seconds between looks
SURE = 2.0  # between finding and believing it: Envoy acknowledges a listener before it has bound it
MENDING = 5.0  # for each half of a repair
CLOSING = 0.5  # from Envoy's word that a listener is gone until its workers have closed it
POLL = 0.1


@dataclass(frozen=True, slots=True)
class Served:
    """What should be open for one container: the versions of all that its listener needs, and where to look for it."""

    pin: Path
    versions: Mapping[ResourceKey, str | None]


class TlsState(Enum):
    """How far TLS of one attachment is: listening, waiting for Envoy or a certificate, refused by Envoy."""

    READY = "ready"
    WAITING = "waiting"
    REFUSED = "refused"


class Listeners(Part):
    """`served` is asked at each look; `port` and `workers` are Envoy's; `on_repair` is called for each that was mended."""

    def __init__(
        self,
        served: Callable[[], Mapping[IPv4Address, Served]],
        *,
        ads: AdsServer,
        port: int,
        workers: int,
        on_repair: Callable[[], None],
    ) -> None:
        self._served = served
        self._ads = ads
        self._port, self._workers = port, workers
        self._on_repair = on_repair
        self._log = log.get("listeners")
        self.closed: frozenset[IPv4Address] = frozenset()  # as of the last look

    def problems(self) -> Iterator[Problem]:
        """Ports that are not open, each by its container."""
        served = self._served() if self.closed else {}
        for address in sorted(self.closed & served.keys()):
            hint = "Envoy is told to open it again; if this stays, see Envoy's log, and `ss -ltn` inside"
            yield Problem("envoy", f"{served[address].pin.name}: its TLS port is not open, though Envoy has it", hint)

    def tls_state(self, address: IPv4Address) -> TlsState:
        """How far the listener of one container is, as of the last look."""
        status = self._ads.status()
        if listener_key(address) in status.refused:
            return TlsState.REFUSED
        return TlsState.READY if status.connected and address not in self.closed else TlsState.WAITING

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.look()

    async def look(self) -> None:
        """Find what is closed, and have it opened again."""
        suspects = await self._not_open(self._served())
        if suspects:
            await asyncio.sleep(SURE)
        found = await self._still(suspects)
        for address in sorted(found - self.closed):
            self._log.warning("listener_closed", address=str(address), port=self._port)
        self.closed = found
        served = self._served()
        lost = {address for address in found & served.keys() if self._ads.has(served[address].versions)}
        if lost:
            await self._given_up(lost)
            await self._mended(lost)

    async def _given_up(self, lost: AbstractSet[IPv4Address]) -> None:
        """Returns when Envoy has closed what it had. One that is told sooner would listen on the dead sockets once more."""
        absent = {listener_key(address): None for address in lost}
        self._ads.withhold(absent.keys())
        try:
            with contextlib.suppress(Unavailable, HostRefused):
                await self._ads.settled(absent, timeout=MENDING)
            await asyncio.sleep(CLOSING)
        finally:
            self._ads.withhold(())

    async def _mended(self, lost: set[IPv4Address]) -> None:
        left: Collection[IPv4Address] = lost
        for _ in range(round(MENDING / POLL)):
            await asyncio.sleep(POLL)
            left = await self._still(lost)
            if not left:
                break
        for address in sorted(lost.difference(left)):
            self._log.info("listener_repaired", address=str(address), port=self._port)
            self._on_repair()
        self.closed -= lost.difference(left)

    async def _still(self, suspects: AbstractSet[IPv4Address]) -> frozenset[IPv4Address]:
        """Those of them that should be open and are not."""
        served = self._served() if suspects else {}
        return await self._not_open({address: served[address] for address in suspects & served.keys()})

    async def _not_open(self, served: Mapping[IPv4Address, Served]) -> frozenset[IPv4Address]:
        """An Envoy that is not there has nothing open, and that is told already."""
        if not served or not self._ads.status().connected:
            return frozenset()
        places = {address: each.pin for address, each in served.items()}
        return await asyncio.to_thread(not_open, places, port=self._port, sockets=self._workers)
