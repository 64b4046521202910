"""What the API asks about the cells of the store."""

from agent.control.api.cells import CellView
from agent.daemon.answers.enforcement import Enforcement
from agent.daemon.clock import Clock
from agent.daemon.storing import Storing
from agent.model.cell import Cell
from agent.model.credentials import StoreCredentials
from agent.model.status import moment


class CellAnswers:
    """`name` is this cell's."""

    def __init__(self, name: str, *, storage: Storing, enforcement: Enforcement, clock: Clock) -> None:
        self._name = name
        self._storage = storage
        self._enforcement = enforcement
        self._clock = clock

    async def cells(self) -> tuple[CellView, ...]:
        """See CellService; here and below."""
        return tuple(map(self._view, await self._storage.store.cells()))

    async def remove_cell(self, name: str, *, credentials: StoreCredentials | None) -> None:
        async with self._storage.acting_as(credentials):
            await self._storage.store.remove_cell(name, now=self._clock.seconds())
        await self._enforcement.next()

    def _view(self, cell: Cell) -> CellView:
        record = cell.record
        return CellView(
            name=record.name,
            underlay=record.underlay,
            subnet=record.subnet,
            alive_since=moment(cell.alive_since),
            version=record.version,
            here=record.name == self._name,
        )
