"""`/v1/history`: what the agent did and saw."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from aiohttp import web

from agent.control.errors import answer
from agent.errors import HostRefused, InvalidInput
from agent.insight.history.history import Found, History
from agent.insight.history.on_disk import HistoryArea, HistoryEntry
from agent.wording import did_you_mean

FILTERS = ("since", "area", "most")
MOST = 1_000
LONGEST = 10_000


class HistoryApi:
    """The handler. It only reads."""

    def __init__(self, history: History, *, cell: str, now: Callable[[], datetime]) -> None:
        self._history = history
        self._cell = cell
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """One."""
        return [web.get("/v1/history", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """The newest, in the order in which they happened."""
        query = dict(request.query)
        if set(query) - set(FILTERS) or len(query) != len(request.query):
            raise InvalidInput(f"the query has {', '.join(sorted(query))}", hint=f"possible: {', '.join(FILTERS)}, each once")
        moment = None
        if "since" in query:
            moment = self._now().replace(microsecond=0) - timedelta(seconds=_number(query["since"], most=10**9))
        most = _number(query["most"], most=LONGEST) if "most" in query else MOST
        try:
            found = await self._history.since(moment, area=_area(query.get("area")), most=most)
        except OSError as error:
            raise HostRefused(f"the history cannot be read: {error.strerror}", hint="see 'cellnet status'") from error
        return answer(self._view(found))

    def _view(self, found: Found) -> Mapping[str, object]:
        events = [self._entry(each) for each in found.entries]
        return {"lost": self._history.lost, "damaged": found.damaged, "more": found.more, "events": events}

    def _entry(self, each: HistoryEntry) -> Mapping[str, object]:
        return {"at": each.at, "area": each.area, "what": each.what, "by": each.by, "cell": self._cell}


def _area(text: str | None) -> HistoryArea | None:
    try:
        return None if text is None else HistoryArea(text)
    except ValueError as error:
        known = [each.value for each in HistoryArea]
        hint = did_you_mean(text or "", known, otherwise=f"possible: {', '.join(known)}")
        raise InvalidInput(f"there is no area '{(text or '')[:20]}'", hint=hint) from error


def _number(text: str, *, most: int) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) > most:
        raise InvalidInput(f"'{text[:20]}' is not a number up to {most:,}", hint="e.g. since=3600 (seconds)")
    return int(text)
