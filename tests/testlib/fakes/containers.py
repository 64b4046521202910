"""The containers of engines of an agent without a kernel."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agent.attach.container_files import ContainerPaths
from agent.attach.environments import Environment
from agent.attach.reserved_places import ReservedPlaces
from agent.attach.transaction import AttachTransactions
from agent.config.config import RESOLVER
from agent.control.api.containers.attachments import AttachmentsApi
from agent.control.api.containers.containers import ContainersApi
from agent.model.attachment import Attachment
from agent.model.names import AppName
from agent.model.owner import NamespaceOwner
from agent.model.place import Place
from agent.model.reservation import Reservation
from agent.model.resolv_conf import ResolvConf, resolv_conf
from tests.testlib.samples import attachment

if TYPE_CHECKING:
    from tests.testlib.fakes.cell import FakeCell


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


class FakePlaces:
    """In memory, each with an address of its own."""

    def __init__(self, cell: "FakeCell") -> None:
        self.cell = cell
        self.files = self

    def all(self) -> Mapping[str, Reservation]:
        return dict(sorted(self.cell.reserved.items()))

    async def reserve(self, asked: Reservation) -> Reservation:
        await self.cell.step()
        place = Place(IPv4Address("10.255.1.100") + len(self.cell.reserved), asked.instance or 0, "b2c7")
        self.cell.reserved[asked.name] = replace(asked, place=place)
        return self.cell.reserved[asked.name]

    async def release(self, name: str) -> bool:
        return self.cell.reserved.pop(name, None) is not None

    def resolv_conf(self, app: AppName) -> ResolvConf:
        return resolv_conf(app, nameserver=RESOLVER, domain="cell.internal")

    def paths(self, name: str) -> ContainerPaths:
        return ContainerPaths(Path("/run/cellnet/env", name), Path("/run/cellnet/resolv", name))

    async def reserved_environment(self, reserved: Reservation) -> Environment:
        assert reserved.place is not None
        folder = f"/run/cellnet/identity/{reserved.name}"
        return Environment(
            {"CF_INSTANCE_INTERNAL_IP": str(reserved.place.address), "CF_INSTANCE_INDEX": str(reserved.place.instance),
             "CF_INSTANCE_CERT": f"{folder}/instance.crt", "CF_SYSTEM_CERT_PATH": "/run/cellnet/identity/_trust"}
        )  # fmt: skip


def fake_containers(cell: "FakeCell", attachments: AttachmentsApi) -> ContainersApi:
    """Their API, whose attachments are the cell's."""
    return ContainersApi(
        attachments,
        attaching=cast("AttachTransactions", FakeHeld(cell)),
        places=cast("ReservedPlaces", FakePlaces(cell)),
    )
