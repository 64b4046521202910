"""Who changed policies, kept in memory."""

from collections.abc import Sequence

from agent.model.credentials import StoreCredentials


class MemoryTrail:
    """A TrailStore without a bound."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.fails: Exception | None = None

    async def add_change(self, data: bytes, *, writer: StoreCredentials | None = None) -> None:
        del writer
        if self.fails is not None:
            raise self.fails
        self.held.append(data)

    async def changes(self) -> Sequence[bytes]:
        return tuple(self.held)
