"""The summary of a cell that shares its store with no other: kept in memory."""

from collections.abc import Mapping


class LoneSummaries:
    """A SummaryStore."""

    def __init__(self, cell: str) -> None:
        self._cell = cell
        self._held: dict[str, bytes] = {}

    async def publish_summary(self, data: bytes) -> None:
        """See SummaryStore."""
        self._held[self._cell] = data

    async def summaries(self) -> Mapping[str, bytes]:
        """See SummaryStore."""
        return dict(self._held)
