"""A copy in memory of all that is below the prefix, kept current by a watch: what the cell reads, with or without etcd.

A missing answer changes nothing here. What comes is judged first: another cluster, or a revision from before the last one seen,
is not news but a loss of data, and the copy stays as it was until somebody decides.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from agent.errors import RAISED, HostRefused, Unavailable
from agent.store.etcd.client import Batch, EtcdClient, Found, Value
from agent.store.etcd.refusal import Compacted

AGAIN = (0.1, 5.0)  # seconds between two tries: the first, and the longest


@dataclass(frozen=True, slots=True)
class Copy:
    """The records at one revision of one cluster."""

    values: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    revision: int = 0
    cluster: int = 0


class Mirror:
    """Follows etcd once `run` is. `changed` is called with the keys that changed, and with none after an outage."""

    def __init__(
        self, client: EtcdClient, prefix: str, *, changed: Callable[[frozenset[str]], None], copy: Copy | None = None
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._changed = changed
        self._values: dict[str, Value] = dict(copy.values) if copy else {}
        self._copy = copy or Copy()
        self._news = asyncio.Condition()
        self.problem: HostRefused | Unavailable | None = Unavailable(
            "etcd has not been reached yet", hint="it is tried again by itself"
        )
        self.lost: str | None = None
        self.following = False
        self._was_reached = copy is not None

    @property
    def copy(self) -> Copy:
        """What is known. Its values are the live ones: read them before you wait for anything."""
        return self._copy

    async def refresh(self) -> Copy:
        """Read everything again now. Raises as EtcdClient.read does."""
        known = self._copy.revision
        await self._take(await self._client.read(self._prefix), known=known)
        return self._copy

    async def reach(self, revision: int, *, seconds: float = 5.0) -> None:
        """Wait until the copy includes `revision` (of a change that we made); read it if the watch does not bring it."""
        if not self.following:
            await self.refresh()
            return
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: self._copy.revision >= revision)
        except TimeoutError:
            await self.refresh()

    async def run(self) -> None:
        """Follow for ever. What goes wrong is in `problem` until it is right again."""
        wait = AGAIN[0]
        while True:
            try:
                if self.problem is not None or self._copy.revision == 0:
                    await self.refresh()
                while self.lost is not None:
                    await asyncio.sleep(wait)
                    await self.refresh()
                async for batch in self._client.watch(self._prefix, since=self._copy.revision):
                    wait = AGAIN[0]
                    self.following = True
                    await self._follow(batch)
            except Compacted:
                self.problem = Unavailable("etcd has compacted what we had not read yet", hint="it is read again by itself")
                continue
            except RAISED as error:
                self.problem = error if isinstance(error, HostRefused | Unavailable) else Unavailable(str(error))
            finally:
                self.following = False
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - a thousand cells must not come at the same moment
            wait = min(wait * 2, AGAIN[1])

    async def _take(self, found: Found, *, known: int) -> None:
        """A whole reading. It may be older than what the watch has brought meanwhile, if only by a moment."""
        if self._is_loss(found, known=known) or found.revision < self._copy.revision:
            return
        keys = {key for key in found.values.keys() | self._values.keys() if found.values.get(key) != self._values.get(key)}
        self._values = found.values
        await self._now(keys, found.revision, found.cluster)

    async def _follow(self, batch: Batch) -> None:
        """Changes that a reading included already are passed over: it may have seen later ones of the same records."""
        if self._copy.cluster not in (0, batch.cluster) or batch.seen < self._copy.revision:
            raise Unavailable("this member of etcd is behind what was seen before", hint="another one is asked by itself")
        new = [change for change in batch.changes if change.revision > self._copy.revision]
        for change in new:
            if change.value is None:
                self._values.pop(change.key, None)
            else:
                self._values[change.key] = change.value
        await self._now({change.key for change in new}, batch.revision, batch.cluster)

    async def _now(self, keys: set[str], revision: int, cluster: int) -> None:
        self._copy = Copy(MappingProxyType(self._values), max(revision, self._copy.revision), cluster)
        recovered = self.problem is not None and self._was_reached
        self.problem, self._was_reached = None, True
        async with self._news:
            self._news.notify_all()
        if keys or recovered:
            self._changed(frozenset(keys))

    def _is_loss(self, found: Found, *, known: int) -> bool:
        """A reading is what the whole cluster agrees on: it is not older than what was `known` before, unless data went."""
        if known == 0:
            return False
        if found.cluster != self._copy.cluster:
            self.lost = f"etcd is another cluster than before ({found.cluster:x}, was {self._copy.cluster:x})"
        elif found.revision < known:
            self.lost = f"etcd's data is older than before (revision {found.revision}, was {known})"
        else:
            self.lost = None
            return False
        self.problem = Unavailable(self.lost, hint="docs/store.md tells what to do")
        return True
