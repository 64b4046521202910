"""`/v1/cells`: the cells that share this one's store."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network

from aiohttp import web

from agent.config.config import Mtls
from agent.control.bodies import OperatorBody, read_body
from agent.control.enforcement import Enforcement
from agent.control.errors import answer
from agent.model.cell import Cell
from agent.model.status import moment
from agent.store.protocols import CellStore
from agent.wording import natural


@dataclass(frozen=True, slots=True)
class CellView:
    """A cell of the store. `alive_since` (UTC) is None while its agent gives no sign; `mtls` is the mode of mutual TLS that is
    in force there; `drained`: it takes no attach, until that is taken back; `here`: the one that answers.
    """

    name: str
    underlay: IPv4Address
    subnet: IPv4Network
    alive_since: datetime | None
    version: str
    mtls: Mtls
    drained: bool
    here: bool


class CellsApi:
    """The handlers. `name` is this cell's, `now` the time of day in seconds since 1970."""

    def __init__(self, name: str, *, store: CellStore, enforcement: Enforcement, now: Callable[[], float]) -> None:
        self._name = name
        self._store = store
        self._enforcement = enforcement
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/cells", self.list_all), web.delete("/v1/cells/{name}", self.remove)]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All cells of the store, this one too."""
        return answer(sorted(map(self._view, await self._store.cells()), key=lambda each: natural(each.name)))

    async def remove(self, request: web.Request) -> web.Response:
        """Forget a cell that is gone."""
        name, body = request.match_info["name"], await read_body(OperatorBody, request)
        await self._store.remove_cell(name, now=self._now(), writer=body.credentials())
        await self._enforcement.next()
        return answer({"removed": True})

    def _view(self, cell: Cell) -> CellView:
        of, since = cell.record, moment(cell.alive_since)
        return CellView(of.name, of.underlay, of.subnet, since, of.version, of.mtls, of.drained, here=of.name == self._name)
