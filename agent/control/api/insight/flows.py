"""`/v1/flows`: which flows there are; `/v1/events`: what begins, ends, is cut and is refused, as it happens."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from agent.control.api.insight.denied import asked
from agent.control.errors import answer
from agent.control.peer import PEER
from agent.errors import InvalidInput
from agent.insight.flows.followed import FollowedFlows
from agent.insight.flows.followers import FLOWS, TOLD, EventKind, EventWish, Follower, Followers, message
from agent.insight.flows.looks import FlowLooks

EVENTS: Final = "/v1/events"
MOST: Final = 2_000  # flows of one answer
LOOK: Final = 0.25  # seconds until it is seen that a follower has gone
SIGN: Final = 60  # of these, after which a follower that is told nothing is sent a sign of life
HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}


class FlowsApi:
    """The handlers. Both only read."""

    def __init__(self, looks: FlowLooks, followers: Followers, followed: FollowedFlows, *, cell: str) -> None:
        self._looks = looks
        self._followers = followers
        self._followed = followed
        self._cell = cell

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/flows", self.present), web.get(EVENTS, self.follow)]

    async def present(self, request: web.Request) -> web.Response:
        """Those of the last look."""
        wanted = asked(dict(request.query))
        look = await self._looks.look()
        found = [each for each in look.flows if wanted(each)]
        return answer(
            {
                "at": look.at,
                "counts_octets": look.counts_octets,
                "keeps_time": look.keeps_time,
                "left_out": max(len(found) - MOST, 0),
                "whole": look.whole,
                "flows": [each.view(cell=self._cell) for each in found[:MOST]],
            }
        )

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Until the caller goes, or the agent does."""
        wish = _wish(dict(request.query))
        follower = self._followers.join(wish, uid=request[PEER].uid)
        try:
            response = web.StreamResponse(headers=HEADERS)
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                await response.write(await self._beginning(wish))
                await _tell(follower, request, response)
        finally:
            self._followers.leave(follower)
        return response

    async def _beginning(self, wish: EventWish) -> bytes:
        """Once all that happens from now on is told."""
        notice = "" if wish.kinds.isdisjoint(FLOWS) else await self._followed.ready()
        return message(EventKind.FOLLOWING, {"cell": self._cell, "notice": notice})


async def _tell(follower: Follower, request: web.Request, response: web.StreamResponse) -> None:
    quiet = 0
    while request.transport is not None and not request.transport.is_closing():
        try:
            async with asyncio.timeout(LOOK):
                await follower.news.wait()
        except TimeoutError:
            quiet += 1
            if quiet % SIGN == 0:
                await response.write(b":\n\n")
            continue
        quiet = 0
        await response.write(follower.take())


def _wish(query: Mapping[str, str]) -> EventWish:
    """`kind` as `new,refused`, all unless it is given; `app`, `to`, `port` as of what was denied. Raises InvalidInput."""
    rest = dict(query)
    given = rest.pop("kind", ",".join(TOLD)).split(",")
    if unknown := set(given) - set(TOLD):
        raise InvalidInput(f"'{sorted(unknown)[0][:20]}' is no kind of event", hint=f"possible: {', '.join(TOLD)}")
    return EventWish(frozenset(map(EventKind, given)), asked(rest))
