"""What cells ask each other for `explain`, beside what all cells watch: each hears of questions to itself alone.

Any cell may write questions, for an answer each its own: etcd's roles hold a liar to that. Both go by themselves.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final

from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.keys import Keys

HOLDS: Final = 10  # seconds until a question and an answer are gone
SILENT: Final = 120.0  # seconds for the watch of questions: nothing depends on its first moment


class EtcdQuestions:
    """A QuestionStore. `has_record` is whether a cell of that name has one: names without are made up."""

    def __init__(self, client: EtcdClient, keys: Keys, *, cell: str, has_record: Callable[[str], bool]) -> None:
        self._client = client
        self._keys = keys
        self._cell = cell
        self._has_record = has_record

    async def ask(self, cell: str, data: bytes) -> None:
        """See QuestionStore."""
        await self._put(self._keys.questions_to(cell) + self._cell, data)

    async def answer_of(self, cell: str) -> bytes | None:
        """See QuestionStore."""
        key = self._keys.answers_of(cell) + self._cell
        found = (await self._client.read(key)).values.get(key)
        return None if found is None else found.data

    async def questions(self) -> AsyncIterator[tuple[str, bytes]]:
        """See QuestionStore."""
        prefix = self._keys.questions_to(self._cell)
        found = await self._client.read(prefix)
        for key, value in found.values.items():
            if self._has_record(asker := key.removeprefix(prefix)):
                yield asker, value.data
        async for batch in self._client.watch(prefix, since=found.revision, silent=SILENT):
            for each in batch.changes:
                if each.value is not None and self._has_record(asker := each.key.removeprefix(prefix)):
                    yield asker, each.value.data

    async def answer(self, cell: str, data: bytes) -> None:
        """See QuestionStore."""
        await self._put(self._keys.answers_of(self._cell) + cell, data)

    async def _put(self, key: str, data: bytes) -> None:
        await self._client.commit(do=[put(key, data, lease=await self._client.grant(HOLDS))])
