"""`/v1/policies/changes`: who changed which policies of the store, on whatever cell."""

from aiohttp import web

from agent.control.errors import answer
from agent.insight.history.policy_trail import PolicyTrail


class PolicyChangesApi:
    """The handler. It only reads."""

    def __init__(self, trail: PolicyTrail) -> None:
        self._trail = trail

    def routes(self) -> list[web.RouteDef]:
        """One."""
        return [web.get("/v1/policies/changes", self.show)]

    async def show(self, _request: web.Request) -> web.Response:
        """In the order in which they were made."""
        return answer(await self._trail.changes())
