"""The containers of engines of an agent without a kernel."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agent.attach.transaction import AttachTransactions
from agent.control.api.attachments import AttachmentsApi
from agent.control.api.containers import ContainersApi
from agent.model.attachment import Attachment
from agent.model.names import AppName
from agent.model.owner import NamespaceOwner
from agent.model.reservation import Reservation
from agent.model.resolv_conf import NAMESERVER, resolv_conf
from agent.store.reservations import Reservations
from tests.testlib.samples import attachment

if TYPE_CHECKING:
    from tests.testlib.fake_cell import FakeCell


class FakeHeld:
    """What an engine's containers are found by."""

    def __init__(self, cell: "FakeCell") -> None:
        self.cell = cell

    def attached(self) -> tuple[Attachment, ...]:
        return tuple(
            attachment(AppName.parse(each.app), name=name, address=each.address,
                       owner=NamespaceOwner(Path("/nowhere"), 0, 0, "b1", self.cell.containers.get(name)))
            for name, each in self.cell.views.items()
        )  # fmt: skip

    async def await_readiness(self) -> None:
        await self.cell.step()


class FakeReservations:
    """In memory."""

    def __init__(self, cell: "FakeCell") -> None:
        self.cell = cell

    def all(self) -> Mapping[str, Reservation]:
        return dict(sorted(self.cell.reserved.items()))

    def get(self, name: str) -> Reservation | None:
        return self.cell.reserved.get(name)

    def put(self, reservation: Reservation) -> None:
        self.cell.reserved[reservation.name] = reservation

    def drop(self, name: str) -> bool:
        return self.cell.reserved.pop(name, None) is not None


def fake_containers(cell: "FakeCell", attachments: AttachmentsApi) -> ContainersApi:
    """Their API, whose attachments are the cell's."""
    return ContainersApi(
        attachments,
        attaching=cast("AttachTransactions", FakeHeld(cell)),
        reservations=cast("Reservations", FakeReservations(cell)),
        resolv_conf=partial(resolv_conf, nameserver=NAMESERVER, domain="cell.internal"),
    )
