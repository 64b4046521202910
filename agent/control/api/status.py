"""`/v1/status`, `/v1/sync` and `/v1/metrics`: how the cell is, and waiting until it is as it should be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from pydantic import Field

from agent.control.bodies import Body, read_body
from agent.control.errors import answer
from agent.model.status import Problem

SYNC_LIMIT = 300.0
"""Seconds that a caller may ask `sync` to wait."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Status:
    """The cell on one screen: what is wrong, and the rows of its parts by name (see agent/model/status.py)."""

    problems: tuple[Problem, ...]
    rows: Mapping[str, object]


class StatusService(Protocol):
    """The questions about the cell as a whole."""

    async def status(self) -> Status:
        """The cell now."""

    async def sync(self, *, within: float) -> tuple[str, ...]:
        """Wait, `within` seconds at most, until all known at the call is enforced; what is still missing, or nothing."""

    async def metrics(self) -> str:
        """The metrics in Prometheus' exposition format."""


class SyncBody(Body):
    """`POST /v1/sync`: seconds to wait."""

    timeout: float = Field(default=10.0, ge=0, le=SYNC_LIMIT)


class StatusApi:
    """The handlers."""

    def __init__(self, service: StatusService) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/status", self.show), web.post("/v1/sync", self.sync), web.get("/v1/metrics", self.metrics)]

    async def show(self, _request: web.Request) -> web.Response:
        """The cell on one screen."""
        found = await self._service.status()
        return answer({"ok": not found.problems, "problems": found.problems, **found.rows})

    async def sync(self, request: web.Request) -> web.Response:
        """Wait until all is enforced."""
        body = await read_body(SyncBody, request)
        missing = await self._service.sync(within=body.timeout)
        return answer({"ok": not missing, "missing": missing})

    async def metrics(self, _request: web.Request) -> web.Response:
        """For a monitoring system."""
        return web.Response(text=await self._service.metrics(), headers={"Content-Type": METRICS_TYPE})
