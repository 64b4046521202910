"""`/v1/policies/unused`: the policies that no flow of this cell's containers has used."""

from collections.abc import Callable, Collection, Mapping

from aiohttp import web

from agent.control.api.policy.view import view
from agent.control.errors import answer
from agent.errors import InvalidInput
from agent.insight.policy_use import PolicyUse, UnusedPolicy
from agent.model.names import AppName

LONGEST = 10**9  # seconds


class UnusedPoliciesApi:
    """The handler. `apps` are those that run here."""

    def __init__(self, use: PolicyUse, *, apps: Callable[[], Collection[AppName]]) -> None:
        self._use = use
        self._apps = apps

    def routes(self) -> list[web.RouteDef]:
        """One."""
        return [web.get("/v1/policies/unused", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Those of the policies in force, as of a look that is a second old at most."""
        found = await self._use.unused(frozenset(self._apps()), within=_within(dict(request.query)))
        shown = [_view(each) for each in found.policies]
        return answer({"seen": found.seen, "elsewhere": found.elsewhere, "policies": shown})


def _view(each: UnusedPolicy) -> Mapping[str, object]:
    return {**view(each.policy), "watched_since": each.watched, "last_used": each.used}


def _within(query: Mapping[str, str]) -> float | None:
    if not query:
        return None
    text = query.get("since", "")
    if set(query) != {"since"} or not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) > LONGEST:
        raise InvalidInput("the query is not since=SECONDS", hint="since=604800 is a week; without it: never used")
    return float(text)
