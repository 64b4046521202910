"""What makes a cell one of many: the underlay of its tunnel, its peers, what it announces to them, and whether they answer."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from ipaddress import IPv4Address

from agent.cells.announcement import Announcement
from agent.cells.departures import Departures
from agent.cells.peers import Peers
from agent.cells.underlay import UnderlayMonitor
from agent.config.config import Config
from agent.errors import HostRefused, Unavailable
from agent.loop.desired import CellFacts
from agent.model.cell import CellRecord
from agent.store.ledger import Ledger
from agent.store.protocols import Store
from dataplane.apply import Kernel, told
from dataplane.netlink.underlay import underlay

PATIENCE = 3.0  # seconds: a start in an outage must not wait long for what the others need not hear at once


@dataclass(frozen=True, slots=True)
class Peering:
    """Its parts. A cell with a store of its own has them too: nobody hears what it tells."""

    underlay: UnderlayMonitor
    peers: Peers
    announcement: Announcement
    departures: Departures


def underlay_monitor(config: Config, kernel: Kernel) -> UnderlayMonitor:
    """Reads the underlay in the kernel's thread."""
    look = partial(told, partial(underlay, config.underlay.address, config.underlay.interface))
    return UnderlayMonitor(
        lambda: asyncio.wrap_future(kernel.submit(look)), overlay=config.overlay, shared=config.store is not None
    )


async def peering(
    config: Config, facts: CellFacts, *, store: Store, ledger: Ledger, monitor: UnderlayMonitor, elapsed: Callable[[], float]
) -> Peering:
    """Told to the others already, if they can be. Raises Conflict where this cell's name is another machine's."""
    peers = Peers(store, name=config.cell, overlay=facts.overlay, subnet=facts.subnet)
    identity = ledger.cell_id(fresh="")  # it has had one since it got its subnet

    def record(address: IPv4Address) -> CellRecord:
        return CellRecord(config.cell, identity, facts.subnet, address, version("cellnet"))

    announcement = Announcement(store, record, cell=config.cell)
    announcement.update((), underlay=monitor.address)
    with contextlib.suppress(Unavailable, HostRefused, TimeoutError):  # it is told as soon as it can be
        async with asyncio.timeout(PATIENCE):
            await announcement.announce()
    return Peering(monitor, peers, announcement, Departures(store, owner=peers.owner, elapsed=elapsed))
