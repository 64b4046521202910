"""Words for tests about stores: those of several cells that share data, their records, and waiting for what one sees."""

import asyncio
import contextlib
import itertools
import uuid
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from agent.config.etcd import Etcd as Config
from agent.model.app_port import AppPort
from agent.model.cell import CellRecord, Endpoint
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.heartbeat import Timing
from agent.store.etcd.keys import Keys
from agent.store.etcd.store import EtcdStore
from agent.store.protocols import CellStore
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.etcd import Etcd

NOW = 1_700_000_000.0
DAY = 24 * 3600.0
OVERLAY = IPv4Network("10.255.0.0/16")
NUMBERS = itertools.count(1)


@dataclass
class EtcdCells:
    """Stores of several cells on one etcd, below a prefix of their own."""

    etcd: Etcd
    stack: contextlib.AsyncExitStack
    timing: Timing = field(default_factory=Timing)
    seconds: float = 3.0  # that a call may take
    prefix: str = field(default_factory=lambda: f"/test-{uuid.uuid4().hex}")
    running: dict[int, tuple[asyncio.Task[None], EtcdClient]] = field(default_factory=dict)

    @property
    def keys(self) -> Keys:
        return Keys(self.prefix)

    def store(self, name: str, *, etcd: Config | None = None) -> EtcdStore:
        """The store of a cell whose agent starts, and which reaches etcd that way."""
        client = EtcdClient(etcd or self.etcd.config, seconds=self.seconds)
        store = EtcdStore(client, prefix=self.prefix, cell=name, overlay=OVERLAY, timing=self.timing, clock=lambda: NOW)
        task = asyncio.get_running_loop().create_task(store.run())
        self.running[id(store)] = (task, client)
        self.stack.push_async_callback(self.stop, store)
        return store

    async def stop(self, store: CellStore) -> None:
        """Its agent ends, as a kill would end it."""
        task, client = self.running[id(store)]
        task.cancel()
        await asyncio.wait([task])
        await client.close()

    async def lapse(self, store: CellStore, name: str) -> None:
        """Its agent ends, and its lease at once, without the wait."""
        await self.stop(store)
        client = EtcdClient(self.etcd.config)
        held = (await client.read(self.keys.alive(name))).values
        for value in held.values():
            await client.revoke(value.lease)
        await client.close()


@dataclass
class MemoryCells:
    """The same in memory."""

    first: MemoryStore = field(default_factory=lambda: MemoryStore(clock=lambda: NOW))

    def store(self, name: str) -> MemoryStore:
        """The store of a cell whose agent starts."""
        del name
        return self.first.beside()

    async def lapse(self, store: CellStore, name: str) -> None:
        """The heartbeat of its agent is overdue."""
        del name
        assert isinstance(store, MemoryStore)
        store.lapse()


Cells = EtcdCells | MemoryCells


async def cell(store: CellStore, name: str, *, underlay: str = "", id: str = "") -> CellRecord:  # noqa: A002 - the field's name
    """Claim a subnet and announce a cell there, as an agent does."""
    lasting = id or f"id-of-{name}"
    subnet = await store.claim_subnet(lasting, network=OVERLAY, cell_prefix=24, now=NOW)
    record = CellRecord(name, lasting, subnet, IPv4Address(underlay or f"192.0.2.{next(NUMBERS) % 250 + 1}"), "0.1")
    await store.announce(record)
    return record


def endpoint(record: CellRecord, name: str, *, of: str = "web", last: int = 2) -> Endpoint:
    """An instance on that cell, whose address ends in `last`."""
    return Endpoint(record.name, name, app(of), 0, record.subnet[last], ports=(AppPort(8080),), routes=("web.apps.internal",))


async def runs(store: CellStore, *expected: Endpoint) -> None:
    """Wait until just these are seen there."""
    await eventually_async(lambda: store.endpoints() == {each.address: each for each in expected})
