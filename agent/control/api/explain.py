"""`/v1/explain`: why a connection passes or does not, step by step on its way, from what the agent's parts know already.

Nothing is sent: a reader's request makes no packet.
"""

from aiohttp import web

from agent.control.api.policy_check import asked
from agent.control.errors import answer
from agent.insight.explain.explanation import Explanation


class ExplainApi:
    """The handler."""

    def __init__(self, explanation: Explanation) -> None:
        self._explanation = explanation

    def routes(self) -> list[web.RouteDef]:
        """The one address."""
        return [web.get("/v1/explain", self.explain)]

    async def explain(self, request: web.Request) -> web.Response:
        """All steps; `works` is whether none of them stands in the way."""
        query = dict(request.query)
        each = asked(query)
        found = await self._explanation.of(each.source, each.to, each.protocol, each.port, service=query["port"])
        return answer({"works": found.works, "steps": found.steps})
