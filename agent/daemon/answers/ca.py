"""What the API asks about authorities."""

import asyncio
from dataclasses import replace
from pathlib import Path

from agent.daemon.answers.enforcement import Enforcement
from agent.daemon.clock import Clock
from agent.identity.ca_errors import as_invalid_input
from agent.identity.leaves import Leaves
from agent.identity.trust import added, checked
from agent.model.credentials import StoreCredentials
from agent.store.protocols import TrustStore
from ca.show import Shown, Summary, show, summaries


class CaAnswers:
    """`folder` is this cell's CA."""

    def __init__(self, leaves: Leaves, *, folder: Path, store: TrustStore, enforcement: Enforcement, clock: Clock) -> None:
        self._leaves = leaves
        self._folder = folder
        self._store = store
        self._enforcement = enforcement
        self._clock = clock

    async def ca(self) -> Shown:
        """See CaService; here and below."""
        with as_invalid_input():
            shown = await asyncio.to_thread(show, self._folder)
        return replace(shown, bundle=self._leaves.trust.bundle)

    async def publish_trust(self, roots: str | None, *, add: bool, credentials: StoreCredentials | None) -> tuple[Summary, ...]:
        domain = self._leaves.trust_domain
        text = self._leaves.trust.own_root if roots is None else roots.encode()
        given = checked(text, trust_domain=domain, now=self._clock.now())
        if add:
            given = added(given, to=await self._store.trust(), trust_domain=domain)
        await self._store.set_trust(given, writer=credentials)
        await self._enforcement.next()
        return summaries(given)
