"""A loss made good, as far as this cell can: reads and writes etcd, by what the pure parts beside it say."""

import secrets
from collections.abc import Callable, Collection

from agent import log
from agent.errors import Unavailable
from agent.store.etcd import records
from agent.store.etcd.client import EtcdClient, Reading, put, unchanged
from agent.store.etcd.disk_copy import HeldRecords, RecordsInForce
from agent.store.etcd.keys import Keys
from agent.store.etcd.loss.generation import generation, revision_of_loss
from agent.store.etcd.loss.held import records_to_hold
from agent.store.etcd.loss.restoration import clashes, plans_to_restore
from agent.store.tags import LAST_TAG

TRIES = 10  # to read data with a generation


class Recovery:
    """Gives etcd's data a generation, and restores what this cell knows after a loss. One per store.

    `now`: seconds since 1970; `fresh` makes what no two cells make alike; `left_out` are keys of records that do not hold.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        *,
        cell: str,
        now: Callable[[], float],
        last_tag: int = LAST_TAG,
        fresh: Callable[[], str] = lambda: secrets.token_hex(8),
        left_out: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._client = client
        self._keys = keys
        self._cell = cell
        self._now = now
        self._last_tag = last_tag
        self._fresh = fresh
        self._left_out = left_out
        self.clashes: tuple[str, ...] = ()

    async def read(self) -> Reading:
        """All records. Where they have no generation (a new etcd, or all was lost) one is made."""
        for _ in range(TRIES):
            found = await self._client.read(self._keys.root)
            if generation(found.values, self._keys) is not None:
                return found
            await self._make_generation(found, before="")
        raise Unavailable("etcd's data is deleted again and again", hint="find what deletes below the prefix")

    async def restore(self, in_force: RecordsInForce, before: Reading, now: Reading) -> bool:
        """Write what is missing; whether there was anything, so that all is to be read again. Raises Conflict."""
        old, new = generation(before.values, self._keys), generation(now.values, self._keys)
        if old is not None and new is not None and old.id == new.id:  # older data: cells that come later must see that, too
            await self._make_generation(now, before=old.id)
            return True
        plans = plans_to_restore(
            in_force,
            now,
            keys=self._keys,
            cell=self._cell,
            clock=self._now(),
            last_tag=self._last_tag,
            left_out=self._left_out(),
        )
        for when, do in plans:
            if await self._client.commit(when=when, do=do) is None:
                break  # another cell was quicker
        return bool(plans)

    def held(self, in_force: RecordsInForce, before: Reading, now: Reading) -> HeldRecords:
        """What is held from now on, when everything that can be is restored."""
        after = revision_of_loss(before, now, self._keys)
        held = records_to_hold(in_force, now, after=after, keys=self._keys, cell=self._cell)
        self.clashes = tuple(clashes(in_force, now.values, keys=self._keys, left_out=self._left_out()))
        log.get("store").warning("etcd_data_written_back", held=len(held), clashes=len(self.clashes))
        return HeldRecords(held, after)

    async def _make_generation(self, found: Reading, *, before: str) -> None:
        """One of the cells that try it succeeds."""
        key = self._keys.generation
        record = records.GenerationRecord(id=self._fresh(), before=before)
        await self._client.commit(when=[unchanged(key, found.values.get(key))], do=[put(key, record.data())])
