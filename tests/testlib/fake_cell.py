"""An agent without a kernel: it answers the whole API from memory, at a real unix socket for tests of the API and the CLI."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from agent.cells.tunnel_health import PeerRow
from agent.control import api, server
from agent.control.api.attachments import AttachmentView, TlsView
from agent.control.api.cells import CellView
from agent.control.api.policies import CheckResult
from agent.control.api.status import Status
from agent.control.peer import Peer
from agent.daemon.firewall import FirewallRow
from agent.daemon.storage import StoreRow
from agent.daemon.this_cell import ThisCellRow
from agent.envoy.connection import EnvoyRow
from agent.envoy.listeners import TlsState
from agent.errors import Conflict, InvalidInput, NotFound
from agent.identity.leaves import CaRow
from agent.loop.reports import LastApplyRow
from agent.model import policy
from agent.model.attachment import AttachRequest
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.policy import ANY_PORT, Origin, Pattern, Policy, Ports
from agent.model.status import Problem
from agent.policy.in_force import PoliciesRow
from ca.show import Shown, Summary
from dataplane.tunnel_probe import TunnelAnswer
from host.namespace import open_namespace, pin, unpin

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
STORE = Origin("store")


def an_app(text: str) -> Pattern:
    """`acme/shop/web` as a pattern."""
    return Pattern(*text.split("/"))


def listed_cell(name: str, *, alive: bool = False, here: bool = False) -> CellView:
    """A cell, as `cellnet cell list` has it."""
    number = len(name)
    subnet, underlay = IPv4Network(f"10.255.{number}.0/24"), IPv4Address("192.0.2.0") + number
    return CellView(name, underlay, subnet, NOW if alive else None, "0.1.0", here)


@dataclass
class FakeCell:
    """Keeps what it is given. With `folder` it pins the namespaces it is given, so that `exec` can enter them."""

    folder: Path | None = None
    views: dict[str, AttachmentView] = field(default_factory=dict)
    owners: dict[str, int | None] = field(default_factory=dict)  # pids by name
    rules: list[Policy] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    detached: list[str] = field(default_factory=list)
    fails: Exception | None = None
    leaving: set[str] = field(default_factory=set)
    missing: tuple[str, ...] = ()
    rows: dict[str, Any] = field(default_factory=dict)  # in place of those that the status would have
    gate: threading.Event = field(default_factory=threading.Event)
    waits: bool = False
    cancelled: int = 0
    log: list[MutableMapping[str, Any]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    operators: list[StoreCredentials | None] = field(default_factory=list)
    listed: list[CellView] = field(default_factory=lambda: [listed_cell("one", alive=True, here=True), listed_cell("two")])
    published: list[tuple[str | None, bool]] = field(default_factory=list)

    async def _step(self) -> None:
        try:
            if self.waits:
                await _set(self.gate)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails is not None:
            raise self.fails

    async def attach(self, request: AttachRequest, *, peer: Peer) -> AttachmentView:
        self.peers.append(peer)
        await self._step()
        if request.name in self.views or request.name in self.leaving:
            raise Conflict(f"'{request.name}' is attached", hint="detach it first", taken=request.name)
        address = IPv4Address("10.255.1.2") + len(self.views)
        place = Path(f"/nowhere/{request.name}")
        if self.folder is not None:
            place = self.folder / request.name
            pin(open_namespace(request.netns, root=Path(f"/proc/{peer.pid}/root")), place)
        instance = request.instance or 0
        environment = {"CF_INSTANCE_INTERNAL_IP": str(address), "CF_INSTANCE_INDEX": str(instance), **self.environment}
        self.views[request.name] = AttachmentView(
            name=request.name, app=str(request.app), instance=instance, address=address, ports=request.ports,
            routes=request.routes, interface=request.interface, tls=TlsView(TlsState.READY, NOW + timedelta(hours=24)),
            environment=environment, pin=place,
        )  # fmt: skip
        self.owners[request.name] = request.owner_pid
        return self.views[request.name]

    async def detach(self, name: str) -> bool:
        await self._step()
        self.detached.append(name)
        found = self.views.pop(name, None)
        if found is not None and self.folder is not None:
            unpin(found.pin)
        return found is not None

    async def attachments(self) -> tuple[AttachmentView, ...]:
        return tuple(self.views[name] for name in sorted(self.views))

    async def attachment(self, name: str) -> AttachmentView | None:
        return self.views.get(name)

    async def status(self) -> Status:
        await self._step()
        stored = sum(not each.origin.line for each in self.rules)
        rows = {
            "cell": ThisCellRow(
                "one", IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24"), 1450, len(self.views), "0.1.0", 7, NOW
            ),
            "store": StoreRow("sqlite", "/var/lib/cellnet/cellnet.db"),
            "peers": (),
            "policies": PoliciesRow(len(self.rules) - stored, stored, 1, ()),
            "firewall": FirewallRow("nft", 74),
            "envoy": EnvoyRow(True, "1.40.0", len(self.views), ()),
            "ca": CaRow("cell.internal", NOW, NOW, NOW),
            "last_apply": LastApplyRow(NOW, 12.346, 4),
            "repairs": 0,
            "last_repairs": (),
            "refused_attaches": 0,
            "last_refused_attaches": (),
        }
        return Status(tuple(self.problems), rows | self.rows)

    async def policies(self) -> tuple[Policy, ...]:
        return tuple(self.rules)

    async def allow_policy(
        self, source: str, *, to: str, ports: tuple[str, ...], name: str | None, credentials: StoreCredentials | None
    ) -> str:
        await self._step()
        self.operators.append(credentials)
        numbers = [each.split("/") for each in ports]
        ranges = {
            kind: tuple(ANY_PORT if text == "any" else Ports(int(text), int(text)) for found, text in numbers if found == kind)
            for kind in ("tcp", "udp")
        }
        made = name or f"{source.split('/')[-1]}-to-{to.split('/')[-1]}"
        self.rules.append(Policy(made, (an_app(source),), an_app(to), ranges["tcp"], ranges["udp"], STORE))
        return made

    async def apply_policies(self, document: str, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        await self._step()
        self.operators.append(credentials)
        if "policies" not in document:
            raise InvalidInput("<policies>:1:1: unknown key 'polices'\n  polices: []\n  ^", hint="did you mean 'policies'?")
        return ("from-a-document",)

    async def delete_policy(self, name: str, *, credentials: StoreCredentials | None) -> bool:
        self.operators.append(credentials)
        kept = [each for each in self.rules if each.name != name]
        gone, self.rules = len(kept) < len(self.rules), kept
        return gone

    async def accept_loss(self, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        self.operators.append(credentials)
        return ("held",)

    async def check(self, source: AppName, *, destination: AppName, protocol: policy.Protocol, port: int) -> CheckResult:
        return CheckResult(
            by=self._first(source, destination, protocol, port), reverse=self._first(destination, source, protocol, port),
            ports=tuple(
                f"{kind.value}/{ports}"
                for kind in policy.Protocol
                for each in self.rules
                if self._opens(each, source, destination)
                for ports in each.ports(kind)
            ),
        )  # fmt: skip

    def _first(self, source: AppName, to: AppName, protocol: policy.Protocol, port: int) -> Policy | None:
        for each in self.rules:
            if self._opens(each, source, to) and any(port in ports for ports in each.ports(protocol)):
                return each
        return None

    def _opens(self, rule: Policy, source: AppName, to: AppName) -> bool:
        sources = [pattern for pattern in rule.sources if isinstance(pattern, Pattern)]
        return rule.to.matches(to) and any(one.matches(source) for one in sources)

    async def sync(self, *, within: float) -> tuple[str, ...]:
        await self._step()
        return self.missing

    async def metrics(self) -> str:
        return "# TYPE cellnet_attachments gauge\ncellnet_attachments 1.0\n"

    async def ca(self) -> Shown:
        root, cell = (Summary(f"CN={role}", "a", NOW, NOW + timedelta(days=365), "ab" * 32) for role in ("root", "cell"))
        return Shown(root, cell, True, b"-----BEGIN CERTIFICATE-----\nabcd\n-----END CERTIFICATE-----\n")

    async def publish_trust(self, roots: str | None, *, add: bool, credentials: StoreCredentials | None) -> tuple[Summary, ...]:
        await self._step()
        self.operators.append(credentials)
        self.published.append((roots, add))
        return ((await self.ca()).root,)

    async def cells(self) -> tuple[CellView, ...]:
        await self._step()
        return tuple(self.listed)

    async def remove_cell(self, name: str, *, credentials: StoreCredentials | None) -> None:
        await self._step()
        self.operators.append(credentials)
        kept = [each for each in self.listed if each.name != name]
        if len(kept) == len(self.listed):
            raise NotFound(f"there is no cell '{name}' in the store", hint="did you mean 'two'?")
        self.listed = kept


def routes_of(cell: FakeCell) -> list[web.RouteDef]:
    """The API, answered by `cell`."""
    return api.routes(attachments=cell, policies=cell, cells=cell, ca=cell, status=cell)


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
            async with server.serve(routes_of(cell), path=path, group=group, limit=limit):
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
