"""What this cell says of itself in etcd: its record for good, and on a lease that it is alive and what runs on it.

What should be there is compared with the copy, and what differs is written. So a lease that ran out, records that somebody
deleted, an etcd that was away, and a restart are all the same case. A restart takes up the old lease while it lives, so that
nobody sees a gap; a stop does not end it, as the containers run on.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from agent import log
from agent.errors import RAISED, CellnetError, Conflict, HostRefused
from agent.model.cell import CellRecord, Endpoint
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.cells import Census
from agent.store.etcd.client import EtcdClient, Value, after, put, remove, unchanged
from agent.store.etcd.errors import NoSuchLease
from agent.store.etcd.keys import Keys
from agent.store.etcd.mirror import Mirror
from agent.store.etcd.transactions import OPERATIONS, Plan
from agent.store.protocols import another_machine, same_id, same_underlay
from agent.store.subnets import SubnetClaim

TRIES = 10


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long etcd believes that the agent is alive without a word, and until what failed is tried again."""

    lease: int = 15
    again: float = 1.0

    @property
    def keep(self) -> float:
        """Between two signs of life: two of them may be lost."""
        return self.lease / 3


class Standing:
    """One per store. `run` keeps up what `announce` and `publish` have said; `problem` is why it cannot."""

    def __init__(
        self, client: EtcdClient, mirror: Mirror, *, keys: Keys, census: Census, clock: Callable[[], float], timing: Timing
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._keys = keys
        self._census = census
        self._clock = clock
        self._timing = timing
        self._record: CellRecord | None = None
        self._endpoints: Mapping[str, bytes] | None = None  # until the first `publish`, what an earlier run told holds
        self._lease = 0
        self._kept = 0.0
        self._former = True
        self._was_told = False
        self._one = asyncio.Lock()
        self._stir = asyncio.Event()
        self.problem: CellnetError | None = None

    async def announce(self, record: CellRecord) -> None:
        """See Store."""
        self._record, self._former = record, True
        if self._mirror.problem is not None:
            await self._mirror.refresh()
        await self._tell(record)

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        """See Store."""
        self._endpoints = {self._keys.endpoints_of(each.cell) + each.name: records.endpoint_data(each) for each in endpoints}
        if self._record is not None:
            await self._tell(self._record)

    def note(self, changed: Collection[str]) -> None:
        """These records are not as they were (none: etcd was away): they may be ours."""
        if self._record is None:
            return
        name = self._record.name
        mine = (self._keys.cell(name), self._keys.endpoints_of(name), self._keys.subnet(self._record.subnet))
        if not changed or any(key.startswith(mine) for key in changed):
            self._stir.set()

    async def run(self) -> None:
        """Keep it so for ever. What a clean end leaves is what a kill would: the lease decides."""
        logger = log.get("store")
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.keep if self.problem is None else self._timing.again):
                    await self._stir.wait()
            if self._record is None:
                self._stir.clear()
                continue
            await asyncio.sleep(self._timing.again / 10)  # no storm where another machine writes the same (a copied disk)
            self._stir.clear()
            try:
                await self._tell(self._record)
            except RAISED as error:
                if self.problem is None or self.problem.what != error.what:
                    logger.warning("cell_not_told", what=error.what, hint=error.hint)
                self.problem = error
            else:
                if self.problem is not None:
                    logger.info("cell_told_again")
                self.problem = None

    async def _tell(self, record: CellRecord) -> None:
        """All that differs. Raises Conflict, Unavailable, HostRefused."""
        async with self._one:
            for attempt in range(TRIES):
                if self._mirror.problem is not None:
                    raise self._mirror.problem
                self._refuse(record)
                try:
                    await self._hold(record)
                    if await self._commit(self._plans(record)):
                        self._was_told = True
                        return
                except NoSuchLease:
                    self._lease = 0
                if self._mirror.following and attempt < TRIES // 2:
                    await asyncio.sleep(0.01 * (attempt + 1))  # the watch brings what was changed
                else:
                    await self._mirror.refresh()
            raise Conflict("this cell's records were changed by others again and again", hint="try again")

    def _refuse(self, record: CellRecord) -> None:
        """Raise Conflict where this cell cannot be who it says. One that was told already is not talked out of its address."""
        held = self._census.records.get(record.name)
        if held is not None and held.id != record.id:
            raise another_machine(held)
        if not self._was_told:  # later it is this one that changes its address
            for other in self._census.records.values():
                is_alive = self._census.alive_since(other.name) is not None
                if other.id == record.id and other.underlay != record.underlay and is_alive:
                    raise same_id(other)
        if held is None or held.underlay != record.underlay:
            for other in self._census.living():
                if other.underlay == record.underlay and other.id != record.id:
                    raise same_underlay(other)
        claim = self._census.allotment.claims.get(record.subnet)
        if claim is not None and claim.cell != record.id:
            raise Conflict(
                f"this cell's subnet {record.subnet} was given to cell {claim.name or claim.cell[:12]}",
                hint="restart the agent when its containers can go: it gets another part of the overlay",
            )

    async def _hold(self, record: CellRecord) -> None:
        """Keep the lease, or that of an earlier run; or have a new one."""
        now = asyncio.get_running_loop().time()
        if self._lease and now - self._kept < self._timing.keep / 2:
            return
        told = self._mirror.copy.values.get(self._keys.alive(record.name))
        for lease in dict.fromkeys((self._lease, told.lease if told else 0)):
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
                if not self._former:
                    raise
                self._former = False  # a role may well not reach what the cell wrote under another name: `cell remove` does
                return False
            if revision is None:
                return False
        if revision:
            await self._mirror.reach(revision)
        return True

    def _plans(self, record: CellRecord) -> list[Plan]:
        """What is to be written, the record and the sign of life first; empty where all is as it should be."""
        keys, values = self._keys, self._mirror.copy.values
        place, alive, subnet = keys.record(record.name), keys.alive(record.name), keys.subnet(record.subnet)
        do: list[rpc.RequestOp] = []
        if not _is(values.get(place), data := records.record_data(record)):
            do.append(put(place, data))
        since = self._census.alive_since(record.name)
        if since is None or not _is(values.get(alive), records.alive_data(since), lease=self._lease):
            do.append(put(alive, records.alive_data(self._clock() if since is None else since), lease=self._lease))
        if not _is(values.get(subnet), data := records.subnet_data(record.subnet, SubnetClaim(record.id, record.name))):
            do.append(put(subnet, data))
        if self._former:
            former = [each.name for each in self._census.records.values() if each.id == record.id and each.name != record.name]
            do += [remove_below(prefix) for name in former for prefix in (keys.cell(name), keys.endpoints_of(name))]
        do += self._endpoint_changes(record.name)
        when = [unchanged(key, values.get(key)) for key in (place, alive, subnet)]
        return [(when if start == 0 else [], do[start : start + OPERATIONS]) for start in range(0, len(do), OPERATIONS)]

    def _endpoint_changes(self, name: str) -> list[rpc.RequestOp]:
        wanted, values, prefix = self._endpoints, self._mirror.copy.values, self._keys.endpoints_of(name)
        if wanted is None:
            return []
        extra = [key for key in self._census.own if key.startswith(prefix) and key not in wanted]
        new = {key: data for key, data in wanted.items() if not _is(values.get(key), data, lease=self._lease)}
        return [*map(remove, extra), *(put(key, data, lease=self._lease) for key, data in new.items())]


def remove_below(prefix: str) -> rpc.RequestOp:
    """Delete all records whose key begins so."""
    key = prefix.encode()
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=after(key)))


def _is(held: Value | None, data: bytes, *, lease: int = 0) -> bool:
    return held is not None and (held.data, held.lease) == (data, lease)
