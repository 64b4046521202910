"""`/v1/denied`: what was denied to whom, one by one and by pair."""

from collections.abc import Callable, Mapping

from aiohttp import web

from agent.control.errors import answer
from agent.errors import InvalidInput
from agent.insight.flows.live_flow import Call
from agent.insight.refusals.denied import Denial, Denied, ends_of
from agent.insight.refusals.later_policies import LaterPolicies
from agent.policy.language.ports import parse_one
from agent.policy.parties import party_of

FILTERS = ("app", "to", "port")


class DeniedApi:
    """The handlers. Both only read."""

    def __init__(self, denied: Denied, later: LaterPolicies, *, cell: str) -> None:
        self._denied = denied
        self._later = later
        self._cell = cell

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/denied", self.newest), web.get("/v1/denied/pairs", self.pairs)]

    async def newest(self, request: web.Request) -> web.Response:
        """Those after a number that are still kept."""
        query = dict(request.query)
        after, wanted = _number(query.pop("after", "0")), asked(query)
        found = [self._view(each) for each in self._denied.since(after) if wanted(each.pair)]
        return answer({"number": self._denied.number, "lost": self._denied.lost, "denied": found})

    async def pairs(self, request: web.Request) -> web.Response:
        """How often each pair was denied since the agent's start, the last one first, and whether a policy allows it by now."""
        wanted = asked(dict(request.query))
        tallies = [(pair, each) for pair, each in self._denied.tallies() if wanted(pair)]
        allowed = await self._later.allowed(tallies)
        found = [
            {
                **ends_of(pair), "names": each.names, "count": each.count, "first": each.first, "last": each.last,
                "allowed": pair in allowed,
            }
            for pair, each in tallies
        ]  # fmt: skip
        return answer({"forgotten": self._denied.forgotten, "lost": self._denied.lost, "pairs": found[::-1]})

    def _view(self, each: Denial) -> Mapping[str, object]:
        return {"at": each.at, **each.view(cell=self._cell)}


def asked(query: Mapping[str, str]) -> Callable[[Call], bool]:
    """Which calls a query means: `app` at either end and `to` (apps or addresses), `port` as tcp/8080. Raises InvalidInput."""
    if set(query) - set(FILTERS):
        raise InvalidInput(f"the query has {', '.join(sorted(query))}", hint=f"possible: {', '.join(FILTERS)}, each once")
    app, to = (str(party_of(query[end])) if end in query else None for end in ("app", "to"))
    protocol, port = parse_one(query["port"]) if "port" in query else (None, 0)

    def wanted(call: Call) -> bool:
        return (
            (app is None or app in (call.source, call.to))
            and (to is None or to == call.to)
            and (protocol is None or (protocol.value, port) == (call.protocol, call.port))
        )

    return wanted


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise InvalidInput(f"'{text[:20]}' is not a number", hint="give the number of the last one that is known, e.g. after=0")
    return int(text)
