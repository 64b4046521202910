"""`/v1/ca`: the certificates of this cell's authorities, and the roots that all cells trust."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from aiohttp import web
from pydantic import Field

from agent.control.bodies import OperatorBody, read_body
from agent.control.enforcement import Enforcement
from agent.control.errors import answer
from agent.errors import Conflict
from agent.identity.ca_errors import as_invalid_input
from agent.identity.leaves import Leaves
from agent.identity.trust import added, checked
from agent.model.credentials import StoreCredentials
from agent.reader_threads import in_reader_thread
from agent.store.protocols import TrustStore
from ca.show import Shown, Summary, show, summaries


class TrustBody(OperatorBody):
    """`POST /v1/ca/trust`: roots in PEM, this cell's own if none are given; `add` keeps those that are there."""

    roots: str | None = Field(default=None, min_length=1)
    add: bool = False


class CaApi:
    """The handlers. `folder` is this cell's CA; the values of `ca show` are the views."""

    def __init__(
        self, leaves: Leaves, *, folder: Path, store: TrustStore, enforcement: Enforcement, now: Callable[[], datetime]
    ) -> None:
        self._leaves = leaves
        self._folder = folder
        self._store = store
        self._enforcement = enforcement
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/ca", self.show), web.post("/v1/ca/trust", self.publish)]

    async def show(self, _request: web.Request) -> web.Response:
        """The authorities' certificates."""
        return answer(await self.shown())

    async def publish(self, request: web.Request) -> web.Response:
        """Roots into the store, for all cells."""
        body = await read_body(TrustBody, request)
        return answer({"roots": await self.publish_trust(body.roots, add=body.add, writer=body.credentials())})

    async def shown(self) -> Shown:
        """The certificates of this cell's authorities; `bundle` is what everything here trusts."""
        with as_invalid_input():
            found = await in_reader_thread(lambda: show(self._folder))
        return replace(found, bundle=self._leaves.trust.bundle)

    async def publish_trust(self, roots: str | None, *, add: bool, writer: StoreCredentials | None) -> tuple[Summary, ...]:
        """Have all cells trust `roots` (PEM; None: this cell's own) besides their own, in place of or with those of before.

        Returns what the store has now. InvalidInput for what is no root of this trust domain.
        """
        domain = self._leaves.trust_domain
        if not add and await self._store.rotation() is not None:
            hint = "'cellnet ca rotate --status' shows it; 'cellnet ca publish --add' keeps the roots that it needs"
            raise Conflict("a rotation of the root is under way, and these would take the place of its roots", hint=hint)
        text = self._leaves.trust.own_root if roots is None else roots.encode()
        given = checked(text, trust_domain=domain, now=self._now())
        if add:
            given = added(given, to=await self._store.trust(), trust_domain=domain)
        await self._store.set_trust(given, writer=writer)
        await self._enforcement.next()
        return summaries(given)
