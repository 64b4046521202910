"""What each cell says of its last minute, beside what all cells watch: written once a minute by each, read by who looks."""

from collections.abc import Callable, Mapping

from agent.errors import Unavailable
from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.keys import Keys


class EtcdSummaries:
    """A SummaryStore. `lease` is what the cell keeps while it is alive, 0 before that."""

    def __init__(self, client: EtcdClient, keys: Keys, *, cell: str, lease: Callable[[], int]) -> None:
        self._client = client
        self._keys = keys
        self._cell = cell
        self._lease = lease
        self._written: tuple[bytes, int] | None = None

    async def publish_summary(self, data: bytes) -> None:
        """See SummaryStore."""
        lease = self._lease()
        if not lease:
            raise Unavailable("this cell is not announced in etcd yet", hint="it is tried again by itself")
        if self._written != (data, lease):
            self._written = None  # what an error leaves there is not known
            await self._client.commit(do=[put(self._keys.summaries + self._cell, data, lease=lease)])
            self._written = (data, lease)

    async def summaries(self) -> Mapping[str, bytes]:
        """See SummaryStore."""
        found = await self._client.read(self._keys.summaries)
        return {key.removeprefix(self._keys.summaries): value.data for key, value in found.values.items()}
