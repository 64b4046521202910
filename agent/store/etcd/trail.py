"""Who changed which policies of the store, in etcd beside what all cells watch: the newest of it, with the same rights."""

import time
from collections.abc import Callable, Sequence

from agent.model.credentials import StoreCredentials
from agent.store.etcd.client import EtcdClient, put, remove
from agent.store.etcd.keys import Keys
from agent.store.etcd.operator import client_of
from agent.store.protocols import MOST_CHANGES


class EtcdTrail:
    """A TrailStore. `clock` is in seconds since 1970: an entry's key is its moment, with the cell that it came through."""

    def __init__(self, client: EtcdClient, keys: Keys, *, cell: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._keys = keys
        self._cell = cell
        self._clock = clock

    async def add_change(self, data: bytes, *, writer: StoreCredentials | None = None) -> None:
        """See TrailStore."""
        key = f"{self._keys.trail}{max(int(self._clock() * 1e6), 0):017d}-{self._cell}"
        known = sorted((await self._client.read(self._keys.trail)).values)
        gone = known[: max(len(known) + 1 - MOST_CHANGES, 0)]
        async with client_of(writer, cell=self._client) as client:
            await client.commit(do=[put(key, data), *map(remove, gone[:100])])

    async def changes(self) -> Sequence[bytes]:
        """See TrailStore."""
        found = (await self._client.read(self._keys.trail)).values
        return [found[key].data for key in sorted(found)]
