"""Changes of etcd's records: made of the copy, compared with what etcd has, made again where another cell was quicker."""

import asyncio
import random
from collections.abc import Callable

from agent.errors import Conflict, InvalidInput, Unavailable
from agent.model.credentials import StoreCredentials
from agent.store.etcd import data_loss
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import EtcdClient, unchanged
from agent.store.etcd.keys import Keys
from agent.store.etcd.mirror import Mirror
from agent.store.etcd.operator import client_of
from agent.store.etcd.transactions import Plan

FOLLOWS = 0.5  # seconds until the watch must have brought what was there before ours
RETURN = 2.0  # seconds for which an operator's change waits for the end of an outage
TRIES = 60  # of one change: another cell must have been quicker each time


class Commits:
    """One per store."""

    def __init__(self, client: EtcdClient, mirror: Mirror, *, keys: Keys) -> None:
        self._client = client
        self._mirror = mirror
        self._keys = keys

    def unchanged(self, key: str) -> rpc.Compare:
        """Holds where etcd has the record as the copy has it."""
        return unchanged(key, self._mirror.copy.values.get(key))

    async def settle(self, plan: Callable[[], list[Plan]], *, writer: StoreCredentials | None = None) -> None:
        """Commit what `plan` makes of the copy; if etcd has it otherwise, or the plan cannot be, of what is read anew.

        Raises Conflict when other cells were quicker each time, and what `plan` raises.
        """
        async with client_of(writer, cell=self._client) as client:
            if self._mirror.problem is not None and self._mirror.copy.revision:
                raise self._mirror.problem  # operators have waited for its end, the loop must not
            fresh = False
            for attempt in range(TRIES):
                known, lost = self._mirror.copy.revision, False
                if self._mirror.problem is None or fresh:
                    try:
                        plans = plan()
                    except (Conflict, InvalidInput):
                        if fresh:
                            raise
                    else:
                        if await self.commit_all(plans, client=client):
                            return
                        lost = True
                await asyncio.sleep(random.uniform(0, min(attempt * 0.01, 0.2)))  # noqa: S311 - or all come again at once
                # the watch brings what the quicker cell wrote: a thousand that want one tag must not each read everything
                fresh = not (lost and await self._mirror.has_followed(known, seconds=FOLLOWS))
                if fresh:
                    await self.read()
            raise Conflict("other cells changed the same records again and again", hint="try again")

    async def read(self) -> None:
        """Read everything anew. Raises Unavailable where data was lost."""
        await self._mirror.refresh()
        if self._mirror.lost is not None:
            raise Unavailable(self._mirror.lost, hint="docs/store.md describes what to do")

    async def await_return(self) -> None:
        """See SharedStore."""
        await self._mirror.await_return(seconds=RETURN)

    async def commit_all(self, plans: list[Plan], *, client: EtcdClient) -> bool:
        """All of them, or up to the first that etcd has otherwise."""
        revision: int | None = 0
        for when, do in plans:
            there, held = self._mirror.copy.values, self._mirror.held.values
            also = data_loss.plan_beside_deletions(do, held=held, keys=self._keys, there=there)
            when = [*when, *also[0], *data_loss.unchanged_generation(there, self._keys)]
            revision = await client.commit(when=when, do=[*do, *also[1]])
            if revision is None:
                return False
        if revision:
            await self._mirror.reach(revision)
        return True
