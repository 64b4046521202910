"""`/v1/drain`: instances that leave in order, before maintenance."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import Field

from agent.attach.drain import Drain
from agent.control.bodies import Body, read_body
from agent.control.errors import answer

DAY = 86_400.0


class DrainBody(Body):
    """`POST /v1/drain`: the attachments, none for the whole cell, and how many seconds their connections may last."""

    names: tuple[str, ...] = Field(default=(), max_length=65_536)
    timeout: float = Field(default=60.0, ge=0, le=DAY)


class DrainApi:
    """The handlers. `enforced` returns when names are what they should be on this cell."""

    def __init__(self, drain: Drain, *, enforced: Callable[[], Awaitable[object]]) -> None:
        self._drain = drain
        self._enforced = enforced

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/v1/drain", self.show),
            web.post("/v1/drain", self.begin),
            web.delete("/v1/drain", self.undo),
        ]

    async def show(self, _request: web.Request) -> web.Response:
        """How far it is."""
        return answer(self._drain.row())

    async def begin(self, request: web.Request) -> web.Response:
        """No name leads to them any more when this is answered."""
        body = await read_body(DrainBody, request)
        self._drain.begin(body.names, seconds=body.timeout)
        await self._enforced()
        return answer(self._drain.row())

    async def undo(self, _request: web.Request) -> web.Response:
        """What is not detached yet stays; nothing to take back is no error."""
        undone = self._drain.undo()
        await self._enforced()
        return answer({"undone": undone})
