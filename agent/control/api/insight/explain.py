"""`/v1/explain`: why a connection passes or does not, step by step on its way, from what the agent's parts know already.

Nothing is sent: a reader's request makes no packet. `/v1/explain/try` makes a real call, and is root's.
"""

from aiohttp import web
from pydantic import Field

from agent.control.api.policy.check import asked
from agent.control.bodies import Body, read_body
from agent.control.errors import answer
from agent.insight.explain.explanation import Explained, Explanation
from agent.insight.explain.tries import Tries, verdict


class TryBody(Body):
    """`POST /v1/explain/try`: the query of `/v1/explain`."""

    source: str = Field(alias="from")
    to: str
    port: str


class ExplainApi:
    """The handlers."""

    def __init__(self, explanation: Explanation, tries: Tries) -> None:
        self._explanation = explanation
        self._tries = tries

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/explain", self.explain), web.post("/v1/explain/try", self.tried)]

    async def explain(self, request: web.Request) -> web.Response:
        """All steps; `works` is whether none of them stands in the way."""
        found = await self._explained(dict(request.query))
        return answer({"works": found.works, "steps": found.steps})

    async def tried(self, request: web.Request) -> web.Response:
        """The same with what became of real calls, which decide whether it works."""
        body = await read_body(TryBody, request)
        found = await self._explained({"from": body.source, "to": body.to, "port": body.port})
        tries = await self._tries.make(found.way)
        steps = (*tries, *verdict(tries, found))
        return answer({"works": all(each.ok is not False for each in steps), "steps": (*found.steps, *steps)})

    async def _explained(self, query: dict[str, str]) -> Explained:
        each = asked(query)
        return await self._explanation.of(each.source, each.to, each.protocol, each.port, service=query["port"])
