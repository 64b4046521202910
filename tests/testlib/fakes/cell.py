"""An agent without a kernel: it answers the whole API from memory, at a real unix socket for tests of the API and the CLI."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, cast

import structlog
from aiohttp import web

from agent.attach.published_ports import PublishedPorts
from agent.cells.rollout import MutualTlsRow
from agent.cells.tunnel_health import PeerRow
from agent.config.config import Dns, Mtls
from agent.control import server
from agent.control.api.ca import CaApi
from agent.control.api.cells import CellsApi
from agent.control.api.config import ConfigApi
from agent.control.api.containers.attachments import AttachmentsApi
from agent.control.api.containers.views import AttachmentInFull, AttachmentView, PublishedView, TlsView
from agent.control.api.drain import DrainApi
from agent.control.api.insight.denied import DeniedApi
from agent.control.api.insight.flows import FlowsApi
from agent.control.api.insight.history import HistoryApi
from agent.control.api.insight.summaries import SummariesApi
from agent.control.api.policy.changes import PolicyChangesApi
from agent.control.api.policy.check import OutsideDefaults
from agent.control.api.policy.policies import PoliciesApi
from agent.control.api.policy.unused import UnusedPoliciesApi
from agent.control.api.rotation import RotationView
from agent.control.api.routes import RoutesApi
from agent.control.api.spaces import SpacesApi
from agent.control.api.status import StatusApi
from agent.daemon.firewall import FirewallRow
from agent.daemon.storage import StoreRow
from agent.daemon.this_cell import ThisCellRow
from agent.dns.asked_names import HostsRow
from agent.dns.liveness import DnsRow
from agent.dns.readiness import NamesRow
from agent.envoy.connection import EnvoyRow
from agent.envoy.listeners import TlsState
from agent.envoy.refused_calls import RefusalsRow
from agent.errors import Conflict, NotFound
from agent.identity.leaves import CaRow
from agent.identity.names import NamesHeld, Naming
from agent.identity.rotation import Step
from agent.insight.flows.followers import Followers
from agent.insight.history.history import History, HistoryRow
from agent.insight.history.on_disk import HistoryFile
from agent.insight.history.policy_trail import PolicyTrail
from agent.insight.refusals.denied import Denied, DeniedRow
from agent.insight.summaries import SummaryRow
from agent.loop.reports import LastApplyRow
from agent.metrics import Metrics
from agent.model.attachment import AttachRequest
from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.credentials import StoreCredentials
from agent.model.engine_container import EngineContainer
from agent.model.key_owner import KeyOwner
from agent.model.limits import as_written
from agent.model.names import AppName
from agent.model.outside import Inside
from agent.model.peer import Peer
from agent.model.policy import Pattern, Policy
from agent.model.reservation import Reservation
from agent.model.status import Part, Problem
from agent.policy.in_force import PoliciesRow
from agent.policy.of_cells import PoliciesOfCells
from agent.store.protocols import CellStore
from ca.show import Shown, Summary
from dataplane.tunnel_probe import TunnelAnswer
from host.namespace import open_namespace, pin, unpin
from tests.testlib.fakes.apps import FakeApps, FakeDeclaredApps, FakeKnownApps, dns_of
from tests.testlib.fakes.config import fake_config
from tests.testlib.fakes.containers import fake_containers
from tests.testlib.fakes.drain import FakeDrain
from tests.testlib.fakes.enforcement import FakeEnforcement
from tests.testlib.fakes.flows import FakeFlowLooks, FakeFollowedFlows, FakeLaterPolicies
from tests.testlib.fakes.kernel import FACTS
from tests.testlib.fakes.policies import FakePolicies
from tests.testlib.fakes.policy_use import FakePolicyUse
from tests.testlib.fakes.rotation import FakeRotation
from tests.testlib.fakes.rotation_views import rotation_view
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.fakes.summaries import FakeSummaries
from tests.testlib.fakes.trail import MemoryTrail

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def an_app(text: str) -> Pattern:
    """`acme/shop/web` as a pattern."""
    return Pattern(*text.split("/"))


def listed_cell(name: str, *, alive: bool = False) -> Cell:
    """A cell, as the store has it."""
    number = len(name)
    subnet, underlay = IPv4Network(f"10.255.{number}.0/24"), IPv4Address("192.0.2.0") + number
    mtls = Mtls.STRICT if alive else Mtls.NONE
    return Cell(CellRecord(name, "id", subnet, underlay, "0.1.0", mtls), NOW.timestamp() if alive else None)


def outside_defaults() -> OutsideDefaults:
    """A cell's, in a network where 192.0.2.53 is a name server."""
    inside, server = Inside(IPv4Network("10.255.0.0/16"), ("cell.internal", "apps.internal")), IPv4Address("192.0.2.53")
    why = "it is a name server of this cell's"
    return OutsideDefaults(inside, lambda address: why if address == server else inside.why(IPv4Network(address)))


def in_memory(file: HistoryFile) -> History:
    """A history that is never written."""
    return History(file, now=lambda: NOW, elapsed=lambda: 0.0)


@dataclass
class FakeCell:
    """Keeps what it is given. With `folder` it pins the namespaces it is given, so that `exec` can enter them."""

    folder: Path | None = None
    views: dict[str, AttachmentInFull] = field(default_factory=dict)
    owners: dict[str, int | None] = field(default_factory=dict)  # pids by name
    key_owners: dict[str, KeyOwner] = field(default_factory=dict)  # by name
    services: dict[str, tuple[AppName, ...]] = field(default_factory=dict)  # by name
    containers: dict[str, EngineContainer | None] = field(default_factory=dict)  # by name
    reserved: dict[str, Reservation] = field(default_factory=dict)
    denied: Denied = field(default_factory=lambda: Denied(metrics=Metrics(), now=lambda: NOW, elapsed=lambda: 0.0))
    followers: Followers = field(default_factory=Followers)
    history: History = field(default_factory=lambda: in_memory(HistoryFile(Path("/nonexistent/events.jsonl"))))
    trail: MemoryTrail = field(default_factory=MemoryTrail)
    warnings: tuple[str, ...] = ()  # of each attach
    defaults: OutsideDefaults = field(default_factory=outside_defaults)
    rules: list[Policy] = field(default_factory=list)
    applies: bool = False  # documents that are applied
    problems: list[Problem] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    detached: list[str] = field(default_factory=list)
    fails: Exception | None = None
    fail_once: list[Exception] = field(default_factory=list)  # one after the other
    leaving: set[str] = field(default_factory=set)
    missing: tuple[str, ...] = ()
    rows: dict[str, Any] = field(default_factory=dict)  # in place of those that the status would have
    gate: threading.Event = field(default_factory=threading.Event)
    waits: bool = False
    cancelled: int = 0
    log: list[MutableMapping[str, Any]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    names: MemoryStore = field(default_factory=MemoryStore)  # whose routes are whose
    instances: dict[str, int] = field(default_factory=dict)  # by route
    operators: list[StoreCredentials | None] = field(default_factory=list)
    elsewhere: list[Endpoint] = field(default_factory=list)  # on other cells
    declared: frozenset[AppName] = frozenset()
    listed: list[Cell] = field(default_factory=lambda: [listed_cell("one", alive=True), listed_cell("two")])
    published: list[tuple[str | None, bool]] = field(default_factory=list)
    rotations: list[RotationView] = field(default_factory=lambda: [rotation_view(None), rotation_view(Step.SIGN, "two")])
    rotated: list[tuple[str | None, tuple[str, ...], bool]] = field(default_factory=list)

    def policies(self) -> tuple[Policy, ...]:
        """All that are in force."""
        return tuple(self.rules)

    async def step(self) -> None:
        """What each change, and `status`, waits for or fails with."""
        try:
            if self.waits:
                await _set(self.gate)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fail_once:
            raise self.fail_once.pop(0)
        if self.fails is not None:
            raise self.fails


class FakeAttachments(AttachmentsApi):
    """Attached in memory."""

    def __init__(self, cell: FakeCell) -> None:
        self.cell = cell
        self._names_in_use, self._facts = set(), FACTS
        self._published = PublishedPorts(lambda: (), facts=FACTS, reserved={})

    async def attach(self, request: AttachRequest, *, peer: Peer) -> AttachmentInFull:
        self.cell.peers.append(peer)
        await self.cell.step()
        if request.name in self.cell.views or request.name in self.cell.leaving:
            raise Conflict(f"'{request.name}' is attached", hint="detach it first", taken=request.name)
        address = IPv4Address("10.255.1.2") + len(self.cell.views)
        place = Path(f"/nowhere/{request.name}")
        if self.cell.folder is not None:
            place = self.cell.folder / request.name
            pin(open_namespace(request.netns, root=Path(f"/proc/{peer.pid}/root")), place)
        instance = request.instance or 0
        environment = {"CF_INSTANCE_INTERNAL_IP": str(address), "CF_INSTANCE_INDEX": str(instance), **self.cell.environment}
        self.cell.views[request.name] = AttachmentInFull(
            name=request.name, app=str(request.app), instance=instance, address=address,
            ports=tuple(each.json for each in request.ports),
            routes=request.routes, interface=request.interface, tls=TlsView(TlsState.READY, NOW + timedelta(hours=24)),
            ready=True, limits=as_written(request.limits),
            publish=tuple(PublishedView.of(each, tls_port=61443, served=False) for each in request.publish),
            environment=environment, warnings=self.cell.warnings, environment_file=Path(f"/run/cellnet/env/{request.name}"),
            dns=dns_of(request), pin=place,
        )  # fmt: skip
        self.cell.owners[request.name] = request.owner_pid
        self.cell.key_owners[request.name] = request.key_owner
        self.cell.services[request.name] = request.services
        self.cell.containers[request.name] = request.container
        return self.cell.views[request.name]

    async def detach(self, name: str) -> bool:
        await self.cell.step()
        self.cell.detached.append(name)
        found = self.cell.views.pop(name, None)
        if found is not None and self.cell.folder is not None:
            unpin(found.pin)
        return found is not None

    def views(self) -> tuple[AttachmentView, ...]:
        return tuple(AttachmentView(*(getattr(each, field.name) for field in fields(AttachmentView)))
                     for each in self.cell.views.values())  # fmt: skip

    async def in_full(self, name: str) -> AttachmentInFull | None:
        return self.cell.views.get(name)


class FakeCa(CaApi):
    """Certificates without keys."""

    def __init__(self, cell: FakeCell) -> None:
        self.cell = cell

    async def shown(self) -> Shown:
        root, cell = (Summary(f"CN={role}", "a", NOW, NOW + timedelta(days=365), "ab" * 32) for role in ("root", "cell"))
        return Shown(root, cell, True, b"-----BEGIN CERTIFICATE-----\nabcd\n-----END CERTIFICATE-----\n")

    async def publish_trust(self, roots: str | None, *, add: bool, writer: StoreCredentials | None) -> tuple[Summary, ...]:
        await self.cell.step()
        self.cell.operators.append(writer)
        self.cell.published.append((roots, add))
        return ((await self.shown()).root,)


class FakeCells:
    """What is asked of a CellStore."""

    def __init__(self, cell: FakeCell) -> None:
        self.cell = cell

    async def cells(self) -> tuple[Cell, ...]:
        await self.cell.step()
        return tuple(self.cell.listed)

    async def remove_cell(self, name: str, *, now: float, writer: StoreCredentials | None = None) -> None:
        await self.cell.step()
        self.cell.operators.append(writer)
        kept = [each for each in self.cell.listed if each.record.name != name]
        if len(kept) == len(self.cell.listed):
            raise NotFound(f"there is no cell '{name}' in the store", hint="did you mean 'two'?")
        self.cell.listed = kept


class FakePart(Part):
    """All rows of the status."""

    def __init__(self, cell: FakeCell) -> None:
        self.cell = cell

    def problems(self) -> tuple[Problem, ...]:
        return tuple(self.cell.problems)

    async def rows(self) -> Mapping[str, object]:
        await self.cell.step()
        stored = sum(not each.origin.line for each in self.cell.rules)
        rows = {
            "cell": ThisCellRow(
                "one", IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24"), 1450, len(self.cell.views), "0.1.0", 7, NOW
            ),
            "store": StoreRow("sqlite", "/var/lib/cellnet/cellnet.db"),
            "peers": (),
            "mutual_tls": MutualTlsRow("none", in_force=True),
            "policies": PoliciesRow(len(self.cell.rules) - stored, stored, 1, ()),
            "firewall": FirewallRow("nft", 74),
            "limited": (),
            "envoy": EnvoyRow(True, "1.40.0", len(self.cell.views), ()),
            "dns": DnsRow(IPv4Address("169.254.0.2"), True, len(self.cell.views), (), ()),
            "hosts": HostsRow(True, True, 0),
            "ca": CaRow("cell.internal", NOW, NOW, NOW),
            "rotation": None,
            "last_apply": LastApplyRow(NOW, 12.346, 4),
            "repairs": 0,
            "last_repairs": (),
            "cuts": 0,
            "last_cuts": (),
            "refusals": RefusalsRow(0, 0, {}, ()),
            "denied": DeniedRow(0, (), 0),
            "history": HistoryRow(0, 0),
            "summary": SummaryRow(NOW, ""),
            "refused_attaches": 0,
            "last_refused_attaches": (),
            "drain": None,
            "names": NamesRow(len(self.cell.views), ()),
            "early_addresses": 0,
            "last_early_addresses": (),
        }
        return rows | self.cell.rows


def routes_of(cell: FakeCell) -> list[web.RouteDef]:
    """The API, answered by `cell`."""
    policies, enforcement, apps, known = FakePolicies(cell), FakeEnforcement(), FakeApps(cell), FakeKnownApps(cell)
    naming = Naming(Dns(), lambda: NamesHeld(cell.names.routes(), {}))
    metrics = "# TYPE cellnet_attachments gauge\ncellnet_attachments 1.0\n"
    cells = CellsApi("one", store=cast("CellStore", FakeCells(cell)), enforcement=enforcement, now=NOW.timestamp)
    status = StatusApi((FakePart(cell),), policies=policies, shared=None, enforcement=enforcement, metrics=lambda: metrics)
    attachments, trail = FakeAttachments(cell), PolicyTrail(cell.trail, cell.history, "one", lambda: NOW)
    apis = (
        attachments,
        DeniedApi(cell.denied, FakeLaterPolicies(), cell="one"),
        FlowsApi(FakeFlowLooks(NOW), cell.followers, FakeFollowedFlows(), cell="one"),
        HistoryApi(cell.history, cell="one", now=lambda: NOW),
        SummariesApi(FakeSummaries(NOW), cells=FakeCells(cell).cells),
        fake_containers(cell, attachments),
        ConfigApi(fake_config(), enforcement=enforcement),
        DrainApi(FakeDrain(cell.views), enforced=cell.step),
        apps,
        SpacesApi(FakeDeclaredApps(cell), known=known, enforcement=enforcement),
        UnusedPoliciesApi(FakePolicyUse(NOW, cell.policies), apps=lambda: ()),
        PolicyChangesApi(trail),
        PoliciesApi(
            policies,
            known=known,
            enforcement=enforcement,
            defaults=cell.defaults,
            now=lambda: NOW,
            cuts=policies.cuts,
            running=apps.instances,
            trail=trail,
            of_cells=PoliciesOfCells(policies, cell.names, cell="one", is_here=lambda _: False),
        ),
        cells,
        RoutesApi(cell.names, naming, known=known, in_force=cell.step, instances=lambda: cell.instances, leads=apps.leads),
        FakeCa(cell),
        FakeRotation(cell),
        status,
    )
    return [route for each in apis for route in each.routes()]


def peer_row(name: str, *, alive: bool = True, tunnel: TunnelAnswer | None = TunnelAnswer.ALL) -> PeerRow:
    """Another cell, as the status has it."""
    return PeerRow(name, IPv4Network("10.255.2.0/24"), IPv4Address("10.77.0.2"), NOW if alive else None, tunnel)


async def _set(event: threading.Event) -> None:
    """Wait for an event of another thread."""
    while not event.is_set():  # noqa: ASYNC110 -- an asyncio.Event cannot be set from there
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def serving(cell: FakeCell, path: Path, *, group: str = "cellnet", limit: float = 30.0) -> Iterator[Path]:
    """Serve `cell` at `path` in a thread for as long as the context lasts. Gives the path."""
    ready, stop = threading.Event(), threading.Event()
    failure: list[BaseException] = []

    async def main() -> None:
        with structlog.testing.capture_logs() as cell.log:
            async with server.serve(routes_of(cell), path=path, tell=cell.history.add, group=group, limit=limit):
                ready.set()
                await _set(stop)

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=body)
    thread.start()
    ready.wait()
    try:
        if failure:
            raise failure[0]
        yield path
    finally:
        stop.set()
        cell.gate.set()
        thread.join()
