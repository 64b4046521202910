"""What this cell publishes of itself in etcd: its record for good, and on a lease that it is alive and what runs on it.

What should be there is compared with the copy, and what differs is written. So a lease that ran out, deleted records, an outage
of etcd and a restart are all the same case. A restart takes up the old lease while it holds, so that other cells see no gap; a
stop does not end the lease, as the containers run on.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from agent import log
from agent.complaint import Complaints
from agent.errors import RAISED, CellnetError, Conflict, HostRefused
from agent.model.cell import CellRecord, Endpoint
from agent.pacing import Backoff, wait_for_event
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.cells import CellsAndEndpoints
from agent.store.etcd.client import EtcdClient, Value, absent, put, remove, remove_below, unchanged
from agent.store.etcd.errors import NoSuchLease
from agent.store.etcd.keys import Keys
from agent.store.etcd.mirror import Mirror
from agent.store.etcd.transactions import OPERATIONS, Plan
from agent.store.refusals import another_machine, same_id, same_underlay
from agent.store.subnets import SubnetClaim

TRIES = 10


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long the lease holds without being renewed, the pause before what failed is tried again (doubled each time,
    up to `keep`), and after a write the time until it is checked whether another would succeed."""

    lease: int = 15
    again: float = 1.0
    check: float = 30.0

    @property
    def keep(self) -> float:
        """Between two renewals of the lease: two of them may be lost."""
        return self.lease / 3


class Heartbeat:
    """One per store. `run` keeps up what `announce` and `publish` have written; `problem` is why it cannot."""

    def __init__(
        self,
        client: EtcdClient,
        mirror: Mirror,
        *,
        keys: Keys,
        cells: CellsAndEndpoints,
        clock: Callable[[], float],
        timing: Timing,
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._keys = keys
        self._cells = cells
        self._clock = clock
        self._timing = timing
        self._record: CellRecord | None = None
        self._endpoints: Mapping[str, bytes] | None = None  # until the first `publish`, those of an earlier run hold
        self._policies: bytes | None = None  # the same
        self._lease = 0
        self._kept = 0.0
        self._wrote = 0.0
        self._clears_former = True
        self._was_written = False
        self._writing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._complaints = Complaints(log.get("store"), failed="cell_not_written", recovered="cell_written_again")
        self.problem: CellnetError | None = None

    @property
    def lease(self) -> int:
        """That of this cell, 0 before it has one."""
        return self._lease

    async def announce(self, record: CellRecord) -> None:
        """See CellStore."""
        self._record, self._clears_former = record, True
        if self._mirror.problem is not None:
            await self._mirror.refresh()
        await self._write_differences(record)

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        """See CellStore."""
        self._endpoints = {self._keys.endpoints_of(each.cell) + each.name: records.encode_endpoint(each) for each in endpoints}
        if self._record is not None:
            await self._write_differences(self._record)

    async def publish_policies(self, policies: bytes) -> None:
        """See CellStore."""
        self._policies = policies
        if self._record is not None:
            await self._write_differences(self._record)

    def wake_for(self, changed: Collection[str]) -> None:
        """Have `run` look at once where one of these changed records is this cell's (none: there was an outage)."""
        if self._record is None:
            return
        name = self._record.name
        mine = (self._keys.cell(name), self._keys.endpoints_of(name), self._keys.subnet(self._record.subnet))
        if not changed or any(key.startswith(mine) for key in changed):
            self._wake.set()

    async def run(self) -> None:
        """Keep it so for ever. A clean end leaves the same as a kill: the lease runs out."""
        pauses = Backoff(first=self._timing.again, longest=self._timing.keep)
        while True:
            await wait_for_event(self._wake, within=self._timing.keep if self.problem is None else pauses.next())
            if self._record is None:
                self._wake.clear()
                continue
            await asyncio.sleep(self._timing.again / 10)  # no storm where another machine writes the same (a copied disk)
            self._wake.clear()
            try:
                await self._write_differences(self._record)
                await self._check_writing(self._record)
            except RAISED as error:
                self._complaints.about(error)
                self.problem = error
            else:
                self._complaints.over()
                self.problem = None
                pauses.reset()

    async def _write_differences(self, record: CellRecord) -> None:
        """Raises Conflict, Unavailable, HostRefused."""
        async with self._writing:
            for attempt in range(TRIES):
                if self._mirror.problem is not None:
                    raise self._mirror.problem
                self._refuse_conflicts(record)
                try:
                    await self._keep_lease(record)
                    if await self._commit(self._plans(record)):
                        self._was_written = True
                        return
                except NoSuchLease:
                    self._lease = 0
                if self._mirror.following and attempt < TRIES // 2:
                    await asyncio.sleep(0.01 * (attempt + 1))  # the watch brings what was changed
                else:
                    await self._mirror.refresh()
            raise Conflict("this cell's records were changed by others again and again", hint="try again")

    def _refuse_conflicts(self, record: CellRecord) -> None:
        """Raise Conflict where the name, address or subnet is another cell's."""
        held = self._cells.records.get(record.name)
        if held is not None and held.id != record.id:
            raise another_machine(held)
        if not self._was_written:  # later it is this cell that has changed its address
            for other in self._cells.records.values():
                is_alive = self._cells.alive_since(other.name) is not None
                if other.id == record.id and other.underlay != record.underlay and is_alive:
                    raise same_id(other)
        if held is None or held.underlay != record.underlay:
            for other in self._cells.living():
                if other.underlay == record.underlay and other.id != record.id:
                    raise same_underlay(other)
        claim = self._cells.subnets.claims.get(record.subnet)
        if claim is not None and claim.cell != record.id:
            raise Conflict(
                f"this cell's subnet {record.subnet} was given to cell {claim.name or claim.cell[:12]}",
                hint="restart the agent when its containers can go: it gets another part of the overlay",
            )

    async def _keep_lease(self, record: CellRecord) -> None:
        """Renew the lease, or that of an earlier run; or take a new one."""
        now = asyncio.get_running_loop().time()
        if self._lease and now - self._kept < self._timing.keep / 2:
            return
        alive = self._mirror.copy.values.get(self._keys.alive(record.name))
        for lease in dict.fromkeys((self._lease, alive.lease if alive else 0)):
            if lease:
                with contextlib.suppress(NoSuchLease):
                    await self._client.keep(lease)
                    self._lease, self._kept = lease, now
                    return
        self._lease, self._kept = await self._client.grant(self._timing.lease), now

    async def _commit(self, plans: list[Plan]) -> bool:
        revision: int | None = 0
        for when, do in plans:
            try:
                revision = await self._client.commit(when=when, do=do)
            except HostRefused:
                if not self._clears_former:
                    raise
                self._clears_former = False  # a role may not reach what the cell wrote under another name: `cell remove` does
                return False
            if revision is None:
                return False
        if revision:
            self._wrote = asyncio.get_running_loop().time()
            await self._mirror.reach(revision)
        return True

    async def _check_writing(self, record: CellRecord) -> None:
        """Raise HostRefused where etcd takes no writes: it is full, or a right or the password has gone.

        A write whose condition fails changes nothing, but is refused as any other is.
        """
        now, place = asyncio.get_running_loop().time(), self._keys.record(record.name)
        if now - self._wrote >= self._timing.check:
            await self._client.commit(when=[absent(place)], do=[put(place, records.encode_cell(record))])
            self._wrote = now

    def _plans(self, record: CellRecord) -> list[Plan]:
        """What is to be written, the record and the sign of life first; empty where all is as it should be."""
        keys, values = self._keys, self._mirror.copy.values
        place, alive, subnet = keys.record(record.name), keys.alive(record.name), keys.subnet(record.subnet)
        do: list[rpc.RequestOp] = []
        if not _has(values.get(place), data := records.encode_cell(record)):
            do.append(put(place, data))
        since = self._cells.alive_since(record.name)
        if since is None or not _has(values.get(alive), records.encode_alive(since), lease=self._lease):
            do.append(put(alive, records.encode_alive(self._clock() if since is None else since), lease=self._lease))
        if not _has(values.get(subnet), data := records.encode_subnet(record.subnet, SubnetClaim(record.id, record.name))):
            do.append(put(subnet, data))
        policies = self._policies
        if policies is not None and not _has(values.get(keys.file_policies(record.name)), policies):
            do.append(put(keys.file_policies(record.name), policies))
        if self._clears_former:
            former = [each.name for each in self._cells.records.values() if each.id == record.id and each.name != record.name]
            do += [remove_below(prefix) for name in former for prefix in (keys.cell(name), keys.endpoints_of(name))]
        do += self._endpoint_changes(record.name)
        when = [unchanged(key, values.get(key)) for key in (place, alive, subnet)]
        return [(when if start == 0 else [], do[start : start + OPERATIONS]) for start in range(0, len(do), OPERATIONS)]

    def _endpoint_changes(self, name: str) -> list[rpc.RequestOp]:
        wanted, values, prefix = self._endpoints, self._mirror.copy.values, self._keys.endpoints_of(name)
        if wanted is None:
            return []
        extra = [key for key in self._cells.own if key.startswith(prefix) and key not in wanted]
        new = {key: data for key, data in wanted.items() if not _has(values.get(key), data, lease=self._lease)}
        return [*map(remove, extra), *(put(key, data, lease=self._lease) for key, data in new.items())]


def _has(held: Value | None, data: bytes, *, lease: int = 0) -> bool:
    return held is not None and (held.data, held.lease) == (data, lease)
