"""What the API asks about the cells of the store."""

from agent.control.api.cells import CellView
from agent.daemon.answers.enforcement import Enforcement
from agent.daemon.clock import Clock
from agent.model.cell import Cell
from agent.model.credentials import StoreCredentials
from agent.model.status import moment
from agent.store.protocols import CellStore


class CellAnswers:
    """`name` is this cell's."""

    def __init__(self, name: str, *, store: CellStore, enforcement: Enforcement, clock: Clock) -> None:
        self._name = name
        self._store = store
        self._enforcement = enforcement
        self._clock = clock

    async def cells(self) -> tuple[CellView, ...]:
        """See CellService; here and below."""
        return tuple(map(self._view, await self._store.cells()))

    async def remove_cell(self, name: str, *, credentials: StoreCredentials | None) -> None:
        await self._store.remove_cell(name, now=self._clock.seconds(), writer=credentials)
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
