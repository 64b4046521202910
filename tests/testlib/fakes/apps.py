"""The apps of an agent on memory: what its API and its command line say of them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config.config import RESOLVER
from agent.control.api.apps import AppsApi
from agent.control.api.containers.views import AttachmentView, DnsView
from agent.model.app_port import AppPort
from agent.model.attachment import AttachRequest
from agent.model.cell import Endpoint
from agent.model.names import AppName, Space
from agent.model.policy import spelled_out
from agent.model.resolv_conf import resolv_conf
from agent.policy.known_apps import KnownApps
from agent.store.declared_apps import DeclaredApps

if TYPE_CHECKING:
    from tests.testlib.fakes.cell import FakeCell


class FakeKnownApps(KnownApps):
    """What is attached here or runs elsewhere, and what a policy or a route names."""

    def __init__(self, cell: "FakeCell") -> None:
        self.cell = cell

    async def named(self) -> frozenset[AppName]:
        attached = {AppName.parse(each.app) for each in self.cell.views.values()}
        spelled = {AppName(*parts) for parts in spelled_out(self.cell.rules)}
        return frozenset(attached | spelled | self.routed() | self.cell.declared | {each.app for each in self.cell.elsewhere})

    def routed(self) -> frozenset[AppName]:
        return frozenset(app for route in self.cell.names.routes().values() for app in route.apps)


class FakeDeclaredApps(DeclaredApps):
    """Kept in memory, as long as the cell is."""

    def __init__(self, cell: "FakeCell") -> None:
        self.cell = cell

    def all(self) -> frozenset[AppName]:
        return self.cell.declared

    def declare(self, space: Space, apps: Collection[AppName]) -> None:
        self.cell.declared = frozenset(each for each in self.cell.declared if Space.of(each) != space) | frozenset(apps)


class FakeApps(AppsApi):
    """Those of the cell named `one`, and elsewhere."""

    def __init__(self, cell: "FakeCell") -> None:
        self.cell = cell
        self._known = FakeKnownApps(cell)
        self._routes = cell.names

    def instances(self) -> Mapping[AppName, list[Endpoint]]:
        own = [
            Endpoint("one", each.name, AppName.parse(each.app), each.instance, each.address, ports_of(each), each.routes)
            for each in self.cell.views.values()
        ]
        every = [*own, *self.cell.elsewhere]
        return {app: [each for each in every if each.app == app] for app in {each.app for each in every}}


def ports_of(view: AttachmentView) -> tuple[AppPort, ...]:
    """As values."""
    return tuple(map(AppPort.of, view.ports))


def dns_of(request: AttachRequest) -> DnsView:
    """As an agent answers."""
    found = resolv_conf(request.app, nameserver=RESOLVER, domain="cell.internal")
    return DnsView(found.nameservers, found.search, found.options, Path(f"/run/cellnet/resolv/{request.name}"))
