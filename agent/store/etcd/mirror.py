"""A copy in memory of all that is below the prefix, kept current by a watch: what the cell reads, with or without etcd.

A missing answer changes nothing here. Each answer is judged first: another cluster, a revision before the last one seen, or
another generation is no change but a loss of data. The copy then stays as it is until this cell has restored what it knows;
what it may not write is held (loss/).
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from agent import log
from agent.errors import RAISED, HostRefused, Unavailable
from agent.pacing import Backoff, wait_for_event
from agent.store.etcd.client import Batch, EtcdClient, Reading, RecordChange, Value
from agent.store.etcd.disk_copy import HeldRecords, RecordsInForce
from agent.store.etcd.errors import Compacted
from agent.store.etcd.keys import Keys
from agent.store.etcd.loss.acceptance import accepted_loss
from agent.store.etcd.loss.generation import changed_generation, lacks_something, reason_to_doubt
from agent.store.etcd.loss.recovery import Recovery
from agent.store.etcd.merged_batches import merged

ABSENT = 60.0  # seconds for which another cell's signs of life are held after a loss: it comes back within a few
LOOK = 0.1  # seconds between looks for the end of an outage that a caller waits for
STRETCH = 5_000  # records that are compared before other tasks have their turn
LOST = "this cell writes back what it knows; docs/store.md describes what else to do"


class Mirror:
    """Follows etcd while `run` runs. `changed` is called with the keys that changed, and with none after an outage.

    Changes of records that `may_wait` come together, not each by itself.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        *,
        changed: Callable[[frozenset[str]], None],
        may_wait: Callable[[str], bool],
        recovery: Recovery,
        copy: Reading | None = None,
        held: HeldRecords | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._changed = changed
        self._may_wait = may_wait
        self._recovery = recovery
        self._values: dict[str, Value] = dict(copy.values) if copy else {}
        self._copy = copy or Reading()
        self.held = held or HeldRecords()
        self._progress = asyncio.Condition()
        self._wanted = asyncio.Event()  # by a caller that waits for the end of an outage
        self.problem: HostRefused | Unavailable | None = Unavailable(
            "etcd has not been reached yet", hint="it is tried again by itself"
        )
        self.lost: str | None = None
        self.following = False
        self._was_reached = copy is not None
        self._expiry: asyncio.TimerHandle | None = None
        self._replacing = asyncio.Lock()
        self._data = 0  # grows when other data is taken, whose revisions are unrelated to those of before

    @property
    def copy(self) -> Reading:
        """What etcd has. Its values are the live ones: read them before you wait for anything."""
        return self._copy

    @property
    def in_force(self) -> RecordsInForce:
        """What the cell goes by. A live view, until the next reading."""
        return RecordsInForce(self._values, self.held.values)

    @property
    def data(self) -> int:
        """How often other data than before was taken."""
        return self._data

    async def refresh(self) -> Reading:
        """Read everything again now. Raises as EtcdClient.read does."""
        while True:
            data, known = self._data, self._copy.revision
            found = await self._recovery.read()
            async with self._replacing:
                if data != self._data:
                    continue
                await self._judge(found, known=known)
                return self._copy

    async def catch_up(self, *, seconds: float = 5.0) -> None:
        """Return when the copy has all that was committed before the call. Raises as `refresh` does."""
        if self.problem is not None:
            raise self.problem
        before = self._copy
        if await self._client.is_all(self._keys.root, count=len(before.values), revision=before.revision):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._progress:
                await self._progress.wait_for(lambda: self._copy is not before)
                if await self._client.is_all(self._keys.root, count=len(self._copy.values), revision=self._copy.revision):
                    return
        await self.refresh()

    async def await_return(self, *, seconds: float) -> None:
        """Give the end of an outage so long to be noticed, and look for it more often meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while isinstance(self.problem, Unavailable):
                    self._wanted.set()
                    await asyncio.sleep(LOOK)

    async def has_followed(self, revision: int, *, seconds: float) -> bool:
        """Whether the watch brings anything later than `revision` within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._progress:
                return await self._progress.wait_for(lambda: self.following and self._copy.revision > revision)
        return False

    async def reach(self, revision: int, *, seconds: float = 5.0) -> None:
        """Wait until the copy includes `revision` (of this cell's own change); read it if the watch does not bring it."""
        if not self.following:
            await self.refresh()
            return
        try:
            async with asyncio.timeout(seconds), self._progress:
                await self._progress.wait_for(lambda: self._copy.revision >= revision)
        except TimeoutError:
            await self.refresh()

    async def run(self) -> None:
        """Follow for ever. What goes wrong is in `problem` until it is over."""
        backoff = Backoff()
        self._expire_later()
        while True:
            try:
                if self.problem is not None or self._copy.revision == 0:
                    await self.refresh()
                if self.lost is not None:
                    await self._recover()
                since = self._copy.revision
                batches = merged(self._client.watch(self._keys.root, since=since), may_wait=self._may_wait)
                async with contextlib.aclosing(batches):
                    async for batch in batches:
                        backoff.reset()
                        self.following = True
                        await self._follow(batch, since=since)
                        if self.lost is not None:
                            break
            except Compacted:
                self.problem = Unavailable("etcd has compacted what was not read yet", hint="it is read again by itself")
                continue
            except RAISED as error:
                self.problem = error if isinstance(error, HostRefused | Unavailable) else Unavailable(str(error))
            finally:
                self.following = False
            pause = backoff.next() * random.uniform(0.5, 1.0)  # noqa: S311 - or a thousand cells come at once
            await wait_for_event(self._wanted, within=pause)
            self._wanted.clear()

    async def _judge(self, found: Reading, *, known: int) -> bool:
        """Take a reading; False if it lacks data. A quorum has answered it: it is no older than what was `known` before."""
        why = reason_to_doubt(self._copy, found, known=known, keys=self._keys)
        if why is not None and lacks_something(self._copy, found, keys=self._keys):
            self._report_loss(why)
            return False
        # where there was doubt, the right data was brought back, whose revisions may begin anew
        await self._replace(found, held=None if why is None else self.held)
        return True

    def _report_loss(self, why: str) -> None:
        if self.lost is None:
            log.get("store").error("etcd_data_lost", what=why)
        self.lost, self.problem = why, Unavailable(why, hint=LOST)

    async def _recover(self) -> None:
        """Restore, and then take what etcd has; what cannot be restored is held."""
        tries = 0
        while True:
            found = await self._recovery.read()
            async with self._replacing:
                if await self._judge(found, known=self._copy.revision):
                    return
                if not await self._recovery.restore(self.in_force, self._copy, found):
                    await self._replace(found, held=self._recovery.held(self.in_force, self._copy, found))
                    return
            tries += 1  # other cells restore the same: one that comes second reads again
            await asyncio.sleep(random.uniform(0, min(0.01 * tries, 0.5)))  # noqa: S311

    async def _replace(self, found: Reading, *, held: HeldRecords | None = None) -> None:
        """Take a whole reading. It may be a moment older than what the watch has brought meanwhile.

        With `held` it is of other data than before, whatever its revision.
        """
        keys = None
        while keys is None:
            if held is None and found.revision < self._copy.revision:
                return
            keys = await self._differing(found.values)
        self._values = dict(found.values)
        if held is not None:
            keys.update(self.held.values, held.values)
            self.held, self._copy = held, Reading()
            self._data += 1
            self._expire_later()
        self.lost = None
        keys |= self._release_written() | self._release_accepted()
        await self._publish(keys, found.revision, found.cluster)

    async def _differing(self, values: Mapping[str, Value]) -> set[str] | None:
        """The keys of records that `values` have otherwise; None where the copy has changed meanwhile."""
        copy, found = self._copy, set[str]()
        keys = list(values.keys() | self._values.keys())
        for start in range(0, len(keys), STRETCH):
            found.update(key for key in keys[start : start + STRETCH] if values.get(key) != self._values.get(key))
            await asyncio.sleep(0)
            if self._copy is not copy:
                return None
        return found

    async def _follow(self, batch: Batch, *, since: int) -> None:
        """Changes that a reading has already included are skipped: it may have later ones of the same records."""
        if self.lost is not None:
            return
        # A reading in between may be ahead of the watch; a member is behind if it was so when the watch began.
        if self._copy.cluster not in (0, batch.cluster) or batch.seen < since:
            raise Unavailable("this member of etcd is behind what was seen before", hint="another one is asked by itself")
        new = [change for change in batch.changes if change.revision > self._copy.revision]
        if any(change.key == self._keys.generation for change in new) and self._ends_generation(new):
            return
        for change in new:
            if change.value is None:
                self._values.pop(change.key, None)
            else:
                self._values[change.key] = change.value
            if change.revision > self.held.after:
                self.held.values.pop(change.key, None)
        keys = {change.key for change in new}
        if self._keys.accepted in keys:
            keys |= self._release_accepted()
        await self._publish(keys, batch.revision, batch.cluster)

    def _ends_generation(self, new: list[RecordChange]) -> bool:
        """Whether these changes end the data's generation: then none of them is followed before all is read."""
        last = next(change.value for change in reversed(new) if change.key == self._keys.generation)
        made = {} if last is None else {self._keys.generation: last}
        why = changed_generation(self._values, made, self._keys)
        if why is not None:
            self._report_loss(why)
        return why is not None

    def _release_written(self) -> set[str]:
        """No longer hold what has been written since the loss."""
        there, after = self._values, self.held.after
        return self._release({key for key in self.held.values if key in there and there[key].revision > after})

    def _release_accepted(self) -> set[str]:
        """No longer hold what the operator has given up."""
        if not self.held.values:
            return set()
        accepted = accepted_loss(self._values, self._keys)
        return self._release({key for key in self.held.values if accepted.covers(key, self._keys)})

    def _release(self, keys: set[str]) -> set[str]:
        for key in keys:
            del self.held.values[key]
        return keys

    def _expire_later(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if any(value is not None and value.lease for value in self.held.values.values()):
            self._expiry = asyncio.get_running_loop().call_later(ABSENT, self._expire)

    def _expire(self) -> None:
        """A cell that has not come back by now is dead."""
        gone = self._release({key for key, value in self.held.values.items() if value is not None and value.lease})
        if gone:
            self._changed(frozenset(gone))

    async def _publish(self, keys: set[str], revision: int, cluster: int) -> None:
        self._copy = Reading(MappingProxyType(self._values), max(revision, self._copy.revision), cluster)
        recovered = self.problem is not None and self._was_reached
        self.problem, self._was_reached = None, True
        if keys:
            self._changed(frozenset(keys))
        if recovered:  # by itself: what waits for the end of an outage hears of it whatever else has changed
            self._changed(frozenset())
        async with self._progress:
            self._progress.notify_all()
