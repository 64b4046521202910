"""Changes of etcd's records: made of the copy, compared with what etcd has, made again where another cell was quicker."""

import asyncio
import random
from collections.abc import Callable

from agent.errors import Conflict, InvalidInput, Unavailable
from agent.model.credentials import StoreCredentials
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import EtcdClient, unchanged
from agent.store.etcd.keys import Keys
from agent.store.etcd.loss.acceptance import plan_beside_deletions
from agent.store.etcd.loss.generation import unchanged_generation
from agent.store.etcd.mirror import Mirror
from agent.store.etcd.operator import client_of
from agent.store.etcd.transactions import Plan

FOLLOWS = 0.5  # seconds until the watch must have brought what was there before ours
RETURN = 2.0  # seconds for which an operator's change waits for the end of an outage
TRIES = 60  # of one change: another cell must have been quicker each time


class Commits:
    """One per store, with what it takes to change it: what follows etcd, and where everything is."""

    def __init__(self, client: EtcdClient, mirror: Mirror, *, keys: Keys) -> None:
        self._client = client
        self.mirror = mirror
        self.keys = keys

    def unchanged(self, key: str) -> rpc.Compare:
        """Holds where etcd has the record as the copy has it."""
        return unchanged(key, self.mirror.copy.values.get(key))

    async def settle(
        self, plan: Callable[[], list[Plan]], *, writer: StoreCredentials | None = None, follow: bool = True
    ) -> None:
        """Commit what `plan` makes of the copy; if etcd has it otherwise, or the plan cannot be, of what is read anew.

        `follow`: until the copy has it. Raises Conflict when other cells were quicker each time, and what `plan` raises.
        """
        async with client_of(writer, cell=self._client) as client:
            if self.mirror.problem is not None and self.mirror.copy.revision:
                raise self.mirror.problem  # operators have waited for its end, the loop must not
            fresh = False
            for attempt in range(TRIES):
                known, lost = self.mirror.copy.revision, False
                if self.mirror.problem is None or fresh:
                    try:
                        plans = plan()
                    except (Conflict, InvalidInput):
                        if fresh:
                            raise
                    else:
                        if await self.commit_all(plans, client=client, follow=follow):
                            return
                        lost = True
                await asyncio.sleep(random.uniform(0, min(attempt * 0.01, 0.2)))  # noqa: S311 - or all come again at once
                # the watch brings what the quicker cell wrote: a thousand that want one tag must not each read everything
                fresh = not (lost and await self.mirror.has_followed(known, seconds=FOLLOWS))
                if fresh and not lost and self.mirror.problem is None:
                    await self.mirror.catch_up()  # what is refused is mostly known well enough
                elif fresh:
                    await self.read()
            raise Conflict("other cells changed the same records again and again", hint="try again")

    async def read(self) -> None:
        """Read everything anew. Raises Unavailable where data was lost."""
        await self.mirror.refresh()
        if self.mirror.lost is not None:
            raise Unavailable(self.mirror.lost, hint="docs/store.md describes what to do")

    async def await_return(self) -> None:
        """See SharedStore."""
        await self.mirror.await_return(seconds=RETURN)

    async def commit_all(self, plans: list[Plan], *, client: EtcdClient | None = None, follow: bool = True) -> bool:
        """All of them, or up to the first that etcd has otherwise. `client` has the rights; None: this cell's."""
        revision: int | None = 0
        for when, do in plans:
            there, held = self.mirror.copy.values, self.mirror.held.values
            also = plan_beside_deletions(do, held=held, keys=self.keys, there=there)
            when = [*when, *also[0], *unchanged_generation(there, self.keys)]
            revision = await (client or self._client).commit(when=when, do=[*do, *also[1]])
            if revision is None:
                return False
        if revision and follow:
            await self.mirror.reach(revision)
        return True
