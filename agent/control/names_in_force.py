"""Waiting until certificates and the resolver of this cell are as the store says whose names are whose."""

import asyncio

from agent.control.enforcement import Enforcement
from agent.identity.leaves import Leaves
from agent.loop.envoy_table import EnvoyTable

ENVOY_SECONDS = 3.0  # for an Envoy that is away, or late: it takes what it is given once it is back
LOOK_AGAIN = 0.005


class NamesInForce:
    """One per API."""

    def __init__(self, leaves: Leaves, enforcement: Enforcement, envoy: EnvoyTable) -> None:
        self._leaves = leaves
        self._enforcement = enforcement
        self._envoy = envoy

    async def next(self) -> None:
        """Return when what was changed before this call is in force. Raises why it is not."""
        await self._leaves.in_step()
        await self._enforcement.next()
        for _ in range(round(ENVOY_SECONDS / LOOK_AGAIN)):
            if self._envoy.has_taken_secrets():
                return
            await asyncio.sleep(LOOK_AGAIN)
