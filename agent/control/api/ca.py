"""`/v1/ca`: the certificates of this cell's authorities, and the roots that all cells trust."""

from typing import Protocol

from aiohttp import web
from pydantic import Field

from agent.control.bodies import OperatorBody, read_body
from agent.control.errors import answer
from agent.model.credentials import StoreCredentials
from ca.show import Shown, Summary


class CaService(Protocol):
    """The questions about authorities."""

    async def ca(self) -> Shown:
        """The certificates of this cell's authorities; `bundle` is what everything here trusts."""

    async def publish_trust(self, roots: str | None, *, add: bool, credentials: StoreCredentials | None) -> tuple[Summary, ...]:
        """Have all cells trust `roots` (PEM; None: this cell's own) besides their own, in place of or with those of before.

        Returns what the store has now. InvalidInput for what is no root of this trust domain.
        """


class TrustBody(OperatorBody):
    """`POST /v1/ca/trust`: roots in PEM, this cell's own if none are given; `add` keeps those that are there."""

    roots: str | None = Field(default=None, min_length=1)
    add: bool = False


class CaApi:
    """The handlers. The values of `ca show` are the views."""

    def __init__(self, service: CaService) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/ca", self.show), web.post("/v1/ca/trust", self.publish_trust)]

    async def show(self, _request: web.Request) -> web.Response:
        """The authorities' certificates."""
        return answer(await self._service.ca())

    async def publish_trust(self, request: web.Request) -> web.Response:
        """Roots into the store, for all cells."""
        body = await read_body(TrustBody, request)
        given = await self._service.publish_trust(body.roots, add=body.add, credentials=body.credentials())
        return answer({"roots": given})
