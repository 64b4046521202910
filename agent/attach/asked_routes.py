"""The routes that an attach asks for: a mapped one is taken, a free one is claimed for the space where that is allowed.

Before the container has its certificate, since no name may stand in one that is another space's.
"""

from collections.abc import Sequence

from agent.errors import Conflict
from agent.identity.names import Naming
from agent.model.names import AppName, Space
from agent.model.routes import refuse_numbered
from agent.store import routes as rule
from agent.store.protocols import RouteStore


class AskedRoutes:
    """`may_claim`: whether an attach may claim what is free. `naming` knows where routes may lie, and how many one may have."""

    def __init__(self, store: RouteStore, naming: Naming, *, may_claim: bool) -> None:
        self._store = store
        self._naming = naming
        self._may_claim = may_claim

    def require(self, hosts: Sequence[str]) -> None:
        """Raises InvalidInput for names that no app here can have."""
        for host in hosts:
            self._naming.domains.require(host)
            refuse_numbered(host)

    async def take(self, app: AppName, hosts: Sequence[str]) -> None:
        """All of them are of the app's space when this returns. Raises Conflict, and Unavailable in an outage.

        What was claimed stays the space's though the attach may fail afterwards: another cell may have come to rely on it.
        """
        self._naming.require_room(app, hosts)
        for host in hosts:
            if not self._is_taken(app, host):
                await self._store.claim_route(host, Space.of(app))

    def _is_taken(self, app: AppName, host: str) -> bool:
        """Whether it is the space's already. Raises Conflict where it is not, and may not be claimed either."""
        routes = self._store.routes()
        held = routes.get(host)
        if held is not None and held.space == Space.of(app):
            if app in held.without:
                raise Conflict(f"the operator has taken the route {host} from {app}", hint=f"`cellnet route map {app} {host}`")
            return True
        if not self._may_claim:
            rule.claim(routes, host, Space.of(app))  # raises where it is another's
            raise Conflict(
                f"the route {host} is mapped to no app of {Space.of(app)}",
                hint=f"`cellnet route map {app} {host}`, or let attaches claim routes: routes.claim_at_attach in agent.yaml",
            )
        return False
