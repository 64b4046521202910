"""How much of its quota etcd's data has: with all of it etcd takes no writes, which is to be known long before."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from agent.errors import HostRefused, Unavailable
from agent.model.status import Problem
from agent.store.etcd.client import EtcdClient

MUCH: Final = 0.6
MIB: Final = 1 << 20


class EtcdRoom:
    """Looks every so many seconds while `run` runs. An etcd that does not answer, or not to this user, is no matter of it."""

    def __init__(self, client: EtcdClient, *, every: float) -> None:
        self._client = client
        self._every = every
        self._used: tuple[int, int] = (0, 1)

    def problems(self) -> Iterator[Problem]:
        """That there is little room left."""
        size, quota = self._used
        if size >= quota * MUCH:
            what = f"etcd's data has {size // MIB:,} of {quota // MIB:,} MiB, its quota, with which it takes no writes any more"
            hint = (
                "have etcd compact by itself (--auto-compaction-retention=10m), then `etcdctl defrag` each member; or raise "
                "its --quota-backend-bytes, and store.etcd.quota"
            )
            yield Problem("store", what, hint)

    async def run(self) -> None:
        """Again and again, for ever."""
        while True:
            with contextlib.suppress(HostRefused, Unavailable):
                size, quota = await self._client.size()
                self._used = size, quota or self._client.etcd.quota
            await asyncio.sleep(self._every)
