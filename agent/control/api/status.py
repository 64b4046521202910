"""`/v1/status`, `/v1/sync` and `/v1/metrics`: how the cell is, and waiting until it is as it should be."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from aiohttp import web
from pydantic import Field

from agent.control.bodies import Body, read_body
from agent.control.enforcement import Enforcement
from agent.control.errors import answer
from agent.errors import HostRefused, Unavailable
from agent.model.status import Part, Problem, in_order
from agent.policy.in_force import PoliciesInForce
from agent.store.protocols import SharedStore

STORE_SECONDS = 2.0  # that a sync waits for a store of many cells to answer
SYNC_LIMIT = 300.0
"""Seconds that a caller may ask `sync` to wait."""
METRICS = "/v1/metrics"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class SyncBody(Body):
    """`POST /v1/sync`: seconds to wait."""

    timeout: float = Field(default=10.0, ge=0, le=SYNC_LIMIT)


class StatusApi:
    """The handlers. Walks the `parts`, whose rows come in their order; `metrics` writes Prometheus' exposition format."""

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

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/status", self.show), web.post("/v1/sync", self.sync), web.get(METRICS, self.metrics)]

    async def show(self, _request: web.Request) -> web.Response:
        """The cell on one screen: what is wrong, and the rows of its parts by name (see agent/model/status.py)."""
        rows: dict[str, object] = {}
        found: list[Problem] = []
        for part in self._parts:
            rows |= await part.rows()
            found += part.problems()  # at once: what a part says of itself is of one moment
        problems = in_order(found)
        return answer({"ok": not problems, "problems": problems, **rows})

    async def sync(self, request: web.Request) -> web.Response:
        """Wait until all that is known at the call is enforced; what is still missing, or nothing."""
        body = await read_body(SyncBody, request)
        try:
            async with asyncio.timeout(body.timeout):
                await self._catch_up()
                missing = await self._policies.settle_files()
                await self._enforcement.at_last()
                missing = (*missing, *self._policies.left_out())
        except TimeoutError:
            missing = (f"not enforced within {body.timeout:g} s: {self._enforcement.obstacle}",)
        # not the containers that cannot be connected: their rules are in force, and their own root can have brought it about
        return answer({"ok": not missing, "missing": missing})

    async def _catch_up(self) -> None:
        """With other cells; where the store does not answer, what is known counts."""
        if self._shared is not None:
            with contextlib.suppress(Unavailable, HostRefused, TimeoutError):
                async with asyncio.timeout(STORE_SECONDS):
                    await self._shared.catch_up()

    async def metrics(self, _request: web.Request) -> web.Response:
        """For a monitoring system."""
        return web.Response(text=self._metrics(), headers={"Content-Type": METRICS_TYPE})
