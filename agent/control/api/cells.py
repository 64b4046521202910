"""`/v1/cells`: the cells that share this one's store."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from aiohttp import web

from agent.control.bodies import OperatorBody, read_body
from agent.control.errors import answer
from agent.model.credentials import StoreCredentials
from agent.wording import natural


@dataclass(frozen=True, slots=True)
class CellView:
    """A cell of the store. `alive_since` (UTC) is None while its agent gives no sign; `here`: the one that answers."""

    name: str
    underlay: IPv4Address
    subnet: IPv4Network
    alive_since: datetime | None
    version: str
    here: bool


class CellService(Protocol):
    """The questions about cells."""

    async def cells(self) -> tuple[CellView, ...]:
        """All cells of the store by name, this one too."""

    async def remove_cell(self, name: str, *, credentials: StoreCredentials | None) -> None:
        """Forget a cell that is gone. Conflict while it is alive, InvalidInput, with the nearest name, where there is none."""


class CellsApi:
    """The handlers."""

    def __init__(self, service: CellService) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/cells", self.list_all), web.delete("/v1/cells/{name}", self.remove)]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All cells of the store."""
        return answer(sorted(await self._service.cells(), key=lambda each: natural(each.name)))

    async def remove(self, request: web.Request) -> web.Response:
        """Forget a cell that is gone."""
        name, body = request.match_info["name"], await read_body(OperatorBody, request)
        await self._service.remove_cell(name, credentials=body.credentials())
        return answer({"removed": True})
