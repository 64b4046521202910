"""What the API asks about the cell as a whole."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from agent.control.api.status import Status
from agent.daemon.answers.enforcement import Enforcement
from agent.errors import HostRefused, Unavailable
from agent.model.status import Part, problems_of
from agent.policy.in_force import PoliciesInForce
from agent.store.protocols import SharedStore

STORE_SECONDS = 2.0  # that a sync waits for a store of many cells to answer


class StatusAnswers:
    """Walks the `parts`, whose rows come in their order. `metrics` writes the exposition."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        policies: PoliciesInForce,
        shared: SharedStore | None,
        enforcement: Enforcement,
        metrics: Callable[[], str],
    ) -> None:
        self._parts = parts
        self._policies = policies
        self._shared = shared
        self._enforcement = enforcement
        self._metrics = metrics

    async def status(self) -> Status:
        """See StatusService; here and below."""
        rows: dict[str, object] = {}
        for part in self._parts:
            rows |= await part.rows()
        return Status(problems_of(self._parts), rows)

    async def sync(self, *, within: float) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(within):
                await self._catch_up()
                missing = await self._policies.settle_files()
                await self._enforcement.at_last()
        except TimeoutError:
            return (f"not enforced within {within:g} s: {self._enforcement.obstacle}",)
        # not the containers that cannot be connected: their rules are in force, and their own root can have brought it about
        return missing

    async def _catch_up(self) -> None:
        """With other cells; where the store does not answer, what is known counts."""
        if self._shared is not None:
            with contextlib.suppress(Unavailable, HostRefused, TimeoutError):
                async with asyncio.timeout(STORE_SECONDS):
                    await self._shared.catch_up()

    async def metrics(self) -> str:
        return self._metrics()
