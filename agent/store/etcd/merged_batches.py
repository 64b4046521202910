"""What a watch brings, in fewer batches: a cell that writes without end must not keep the others from anything else.

The stream is read as fast as etcd sends it, and only each record's last change is passed on. So what is waiting is never more
than there are records, and a policy waits for no backlog.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field

from agent.pacing import wait_for_event
from agent.store.etcd.client import Batch, RecordChange

PAUSE = 0.05  # seconds between batches of changes that may wait: each means a turn of the loop


@dataclass(slots=True)
class _Waiting:
    """What has come since the last batch was passed on."""

    may_wait: Callable[[str], bool]
    changes: dict[str, RecordChange] = field(default_factory=dict)
    batch: Batch | None = None
    come: asyncio.Event = field(default_factory=asyncio.Event)
    urgent: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, batches: AsyncIterator[Batch]) -> None:
        try:
            async for batch in batches:
                self._add(batch)
        finally:
            self.urgent.set()
            self.come.set()

    def _add(self, batch: Batch) -> None:
        self.changes.update((change.key, change) for change in batch.changes)
        before = self.batch or batch
        self.batch = Batch((), max(before.revision, batch.revision), min(before.seen, batch.seen), batch.cluster)
        if not batch.changes or not all(self.may_wait(change.key) for change in batch.changes):
            self.urgent.set()
        self.come.set()

    def take(self) -> Batch | None:
        if self.batch is None:
            return None
        found = Batch(tuple(self.changes.values()), self.batch.revision, self.batch.seen, self.batch.cluster)
        self.changes, self.batch = {}, None
        self.come.clear()
        self.urgent.clear()
        return found


async def merged(
    batches: AsyncIterator[Batch], *, may_wait: Callable[[str], bool], pause: float = PAUSE
) -> AsyncGenerator[Batch]:
    """All that has come by then at a time. Where all changes may wait, `pause` seconds after the last batch at the earliest."""
    loop, waiting = asyncio.get_running_loop(), _Waiting(may_wait)
    reading = loop.create_task(waiting.read(batches))
    try:
        until = loop.time()
        while True:
            await waiting.come.wait()
            if (rest := until - loop.time()) > 0:
                await wait_for_event(waiting.urgent, within=rest)
            ended = reading.done()
            batch = waiting.take()
            if batch is not None:
                until = loop.time() + pause
                yield batch
            if ended:
                reading.result()
                return
    finally:
        if not reading.cancel() and not reading.cancelled():
            reading.exception()  # it was raised above, or nothing follows any more
