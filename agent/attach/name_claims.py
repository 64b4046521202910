"""Names that several apps could have, by templates of `dns.names` that leave out org or space: claimed beside the loop for the
apps that are attached here, and theirs only where the store says so.
"""

import asyncio
from collections.abc import Iterator

from agent import log
from agent.complaint import Complaints, follow_changes
from agent.identity.names import Naming
from agent.model.attachment import Attachment
from agent.model.names import AppName, Space
from agent.model.routes import Routes
from agent.model.status import Part, Problem
from agent.store.protocols import RouteStore
from agent.wording import listed


class NameClaims(Part):
    """A name that nothing has claimed is claimed again and again until it is. What is another's is a problem, routes too."""

    def __init__(self, naming: Naming, store: RouteStore) -> None:
        self._naming = naming
        self._store = store
        self._here: tuple[Attachment, ...] = ()
        self._held = naming.held()
        self._changed = asyncio.Event()
        self._complaints = Complaints(log.get("names"), failed="not_claimed", recovered="claimed_again")

    def problems(self) -> Iterator[Problem]:
        """Names and routes that what is attached here does not have, as they are another's."""
        for app in sorted({each.app for each in self._here}):
            for name in self._naming.to_claim(app):
                holder = self._held.claimed.get(name, app)
                if holder != app:
                    what = f"{app} is not called {name}, which is the name of {holder}: that had it first"
                    yield Problem("dns", what, f"`cellnet route unmap {name}` frees it once {holder} no longer runs")
        for each in self._here:
            for host in self._naming.domains.allowed(each.routes):
                if why := _why_not(each.app, host, self._held.routes):
                    hint = f"`cellnet route map {each.app} {host}`, or attach it again without the route"
                    yield Problem("dns", f"{each.name}: the route {host}, with which it was attached, {why}", hint)
            if left := self._naming.without_room(each.app, each.routes, self._held):
                what = f"{each.name} is not called {listed(left)}: its certificate has no room for so many names"
                yield Problem("dns", what, "unmap routes that nothing asks for")

    def follow(self, here: tuple[Attachment, ...]) -> None:
        """These are here from now on. Cheap where nothing changed."""
        held = self._naming.held()
        if here != self._here or not held.is_as(self._held):
            self._here, self._held = here, held
            self._changed.set()

    async def run(self) -> None:
        """Claim what comes. Ends only by cancellation."""
        await follow_changes(self._changed, self._claim, complaints=self._complaints)  # the store reports an outage

    async def _claim(self) -> None:
        known = self._store.claimed_names()
        apps = sorted({each.app for each in self._here}, reverse=True)  # of two that come at once the first by name has it
        wanted = {name: app for app in apps for name in self._naming.to_claim(app) if name not in known}
        if wanted:
            await self._store.claim_names(wanted)


def _why_not(app: AppName, host: str, routes: Routes) -> str | None:
    """Why an app does not have a route that it asked for; what the operator has taken from it is no mistake."""
    route = routes.get(host)
    if route is None:
        return "is mapped to no app"
    return None if route.space == Space.of(app) else f"belongs to {route.space}"
