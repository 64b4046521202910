"""The second half of a change of the store's policies: its effect is awaited, and who made it is written into the store."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from agent.control.changes import NAMES, caller
from agent.control.enforcement import Enforcement
from agent.control.peer import PEER
from agent.insight.history.policy_trail import PolicyTrail
from agent.model.credentials import StoreCredentials


class Enforced(Protocol):
    """`enforced` of one API."""

    async def __call__(
        self, request: web.Request, done: str, names: Sequence[str], /, *, writer: StoreCredentials | None
    ) -> None:
        """See `enforced`."""


async def enforced(
    request: web.Request, done: str, names: Sequence[str], *, writer: StoreCredentials | None, enforcement: Enforcement,
    trail: PolicyTrail,
) -> None:  # fmt: skip
    """Once these policies are `done`: `put`, `deleted`, `given up`."""
    request[NAMES] = tuple(names)
    await asyncio.gather(enforcement.next(), trail.add(done, names, by=caller(request[PEER]), writer=writer))
