"""The rotation of the root of an agent on memory."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from agent.control.api.rotation import RotationApi, RotationView
from agent.model.credentials import StoreCredentials

if TYPE_CHECKING:
    from tests.testlib.fakes.cell import FakeCell


class FakeRotation(RotationApi):
    """Where the cell says it is; each request goes on to what comes next there."""

    def __init__(self, cell: "FakeCell") -> None:
        self.cell = cell

    async def shown(self) -> RotationView:
        return self.cell.rotations[0]

    async def advance(
        self, root: str | None, *, without: Collection[str], keep_former: bool, writer: StoreCredentials | None
    ) -> RotationView:
        await self.cell.step()
        self.cell.operators.append(writer)
        self.cell.rotated.append((root, tuple(without), keep_former))
        if len(self.cell.rotations) > 1:
            self.cell.rotations.pop(0)
        return self.cell.rotations[0]
