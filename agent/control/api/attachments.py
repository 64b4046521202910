"""`/v1/attachments`: containers that are put on the overlay, listed, shown and taken off."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, Self

from aiohttp import web
from pydantic import Field

from agent.attach.container_files import ContainerFiles
from agent.attach.published_ports import PublishedPorts
from agent.attach.transaction import AttachTransactions
from agent.control.bodies import Body, read_body
from agent.control.errors import answer
from agent.control.peer import PEER
from agent.envoy.listeners import Listeners, TlsState
from agent.errors import RAISED, Conflict, InvalidInput, NotFound
from agent.identity.leaves import Leaves
from agent.identity.names import Naming
from agent.loop.desired import CellFacts, pin_of
from agent.metrics import Metrics
from agent.model.app_port import AppPort
from agent.model.attachment import Attachment, AttachRequest, check_name
from agent.model.key_owner import ROOT, KeyOwner
from agent.model.limits import as_written, limits_of
from agent.model.names import AppName
from agent.model.peer import Peer
from agent.model.publication import Publication, published_address
from agent.model.status import Events, Part
from agent.wording import natural
from dataplane.state import Limits, TargetHttp


@dataclass(frozen=True, slots=True)
class TlsView:
    """`not_after`: when its certificate ends (UTC), None while it has none."""

    state: TlsState
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class PublishedView:
    """Ports `port` to `last` of the host, on `address` of it or any, that lead to the container's, the first one to `to`.

    `tls`: there its TLS is terminated. `served`: something inside serves one of them, so that calls are not refused there.
    """

    port: int
    last: int
    address: IPv4Address | Literal["any"]
    to: int
    protocol: str
    tls: bool
    served: bool

    @classmethod
    def of(cls, publication: Publication, *, tls_port: int, served: bool) -> Self:
        """That of one of an attachment's."""
        return cls(
            port=publication.first,
            last=publication.last,
            address=publication.address or "any",
            to=publication.inside(tls_port=tls_port)[0],
            protocol=publication.protocol,
            tls=publication.to is None,
            served=served,
        )


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """An attachment, as it is listed. `routes` are those that lead to it or will; `ready`: its names do lead to it.

    `limits` are those of LimitsBody, None where there is none.
    """

    name: str
    app: str
    instance: int
    address: IPv4Address
    ports: tuple[int | str, ...]
    routes: tuple[str, ...]
    interface: str
    tls: TlsView
    ready: bool
    limits: Mapping[str, str | int | None]
    publish: tuple[PublishedView, ...]


@dataclass(frozen=True, slots=True)
class DnsView:
    """What its resolver goes by, and the file that says so."""

    nameservers: tuple[IPv4Address, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]
    file: Path


@dataclass(frozen=True, slots=True)
class EnvironmentView:
    """What the container's processes find, what an operator should know of it, and the file of it that is kept up to date."""

    environment: Mapping[str, str]
    warnings: tuple[str, ...]
    environment_file: Path


@dataclass(frozen=True, slots=True)
class AttachmentInFull(AttachmentView):
    """An attachment with what its caller needs: its EnvironmentView besides, and `pin`, which holds its namespace."""

    environment: Mapping[str, str]
    warnings: tuple[str, ...]
    environment_file: Path
    dns: DnsView
    pin: Path


class KeyOwnerBody(Body):
    """Ids of the host. Without a gid no group may read the key."""

    uid: int
    gid: int | None = None


class LimitsBody(Body):
    """What it may take at most: rate in and out (`100mbit`), open connections to outside of the overlay, new ones a second.

    What is left out has no limit.
    """

    rate: str | None = None
    connections: int | None = None
    new: int | None = None

    def limits(self) -> Limits:
        """The value for the service. Raises InvalidInput that names the field."""
        try:
            return limits_of(rate=self.rate, connections=self.connections, new=self.new)
        except InvalidInput as error:
            raise InvalidInput(f"limits: {error.what}", hint=error.hint) from error


class PublishBody(Body):
    """As PublishedView. Without `last` it is one port; `tls` in place of `to` is the port that terminates TLS."""

    port: int
    last: int | None = None
    address: str = "any"
    to: int | None = None
    protocol: Literal["tcp", "udp"] = "tcp"
    tls: bool = False

    def publication(self) -> Publication:
        """The value. Raises InvalidInput."""
        if (self.to is None) != self.tls:
            raise InvalidInput(f"port {self.port} is published to nothing, or twice", hint="give either `to`, or `tls: true`")
        last = self.port if self.last is None else self.last
        return Publication(self.port, last, self.to, self.protocol, published_address(self.address))


class InstanceBody(Body):
    """What is asked for an instance of an app, wherever it will be. A port is a number for TCP, or "53/udp"."""

    app: str
    instance: int | None = None
    ports: tuple[int | str, ...] = Field(default=(), max_length=256)
    routes: tuple[str, ...] = Field(default=(), max_length=256)
    tls_target: int | None = None
    tls_http: bool | Literal["http/1.1", "h2"] = False
    key_owner: KeyOwnerBody | None = None
    services: tuple[str, ...] = Field(default=(), max_length=256)
    limits: LimitsBody = LimitsBody()
    publish: tuple[PublishBody, ...] = Field(default=(), max_length=256)

    def at(self, netns: str, *, name: str, interface: str = "eth0") -> AttachRequest:
        """The value, for a namespace. Raises InvalidInput."""
        app = AppName.parse(self.app)
        return AttachRequest(
            name=name,
            app=app,
            netns=Path(netns),
            instance=self.instance,
            interface=interface,
            ports=tuple(map(AppPort.of, self.ports)),
            routes=self.routes,
            tls_target=self.tls_target,
            tls_http=TargetHttp.HTTP2 if self.tls_http == "h2" else TargetHttp(bool(self.tls_http)),
            key_owner=ROOT if self.key_owner is None else KeyOwner(self.key_owner.uid, self.key_owner.gid),
            services=tuple(app.beside(each) for each in self.services),
            limits=self.limits.limits(),
            publish=tuple(each.publication() for each in self.publish),
        )


class AttachBody(InstanceBody):
    """`PUT /v1/attachments/{name}`. `owner`: what ends it, the namespace or the process that calls."""

    netns: str
    interface: str = "eth0"
    owner: Literal["namespace", "caller"] = "namespace"
    netns_resolv_conf: bool = False

    def request(self, name: str, *, peer: Peer) -> AttachRequest:
        """The value for the service; the owner's pid is the kernel's word, not the caller's."""
        if self.owner == "caller" and not peer.pid:
            raise InvalidInput("the caller's process cannot be seen from here", hint="call from the agent's pid namespace")
        return replace(
            self.at(self.netns, name=name, interface=self.interface),
            owner_pid=peer.pid if self.owner == "caller" else None,
            netns_resolv_conf=self.netns_resolv_conf,
        )


class AttachmentsApi(Part):
    """The handlers. Keep what was refused; `now` is the time of day (UTC)."""

    def __init__(
        self,
        attaching: AttachTransactions,
        *,
        files: ContainerFiles,
        leaves: Leaves,
        listeners: Listeners,
        facts: CellFacts,
        naming: Naming,
        published: PublishedPorts,
        is_ready: Callable[[Attachment], bool],
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._attaching = attaching
        self._files = files
        self._leaves = leaves
        self._listeners = listeners
        self._facts = facts
        self._naming = naming
        self._published = published
        self._is_ready = is_ready
        self._metrics = metrics
        self._now = now
        self._refused = Events()
        self._names_in_use: set[str] = set()

    async def rows(self) -> Mapping[str, object]:
        """`refused_attaches` since the agent's start, which failed and were undone, and the last of them."""
        return {"refused_attaches": self._refused.count, "last_refused_attaches": self._refused.last}

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/v1/attachments", self.list_all),
            web.post("/v1/attachments", self.add_without_a_name),
            web.get("/v1/attachments/{name}", self.show),
            web.put("/v1/attachments/{name}", self.add),
            web.delete("/v1/attachments/{name}", self.remove),
            web.get("/v1/attachments/{name}/environment", self.show_environment),
        ]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All attachments."""
        await self._published.look()
        return answer(sorted(self.views(), key=lambda each: natural(each.name)))

    async def show(self, request: web.Request) -> web.Response:
        """One attachment, with all that there is of it."""
        return answer(await self._named(request))

    async def show_environment(self, request: web.Request) -> web.Response:
        """What its processes find, as things stand now."""
        found = await self._named(request)
        return answer(EnvironmentView(found.environment, found.warnings, found.environment_file))

    async def _named(self, request: web.Request) -> AttachmentInFull:
        name = request.match_info["name"]
        found = await self.in_full(name)
        if found is None:
            raise NotFound(f"there is no attachment '{name}'", hint="see 'cellnet ps'")
        return found

    async def add(self, request: web.Request) -> web.Response:
        """Attach under the caller's name."""
        body, peer = await read_body(AttachBody, request), request[PEER]
        return answer(await self.attach(body.request(request.match_info["name"], peer=peer), peer=peer), status=201)

    async def add_without_a_name(self, request: web.Request) -> web.Response:
        """Attach under a name that is made up here."""
        body, peer = await read_body(AttachBody, request), request[PEER]
        app = AppName.parse(body.app)
        refused: set[str] = set()
        while True:
            name = free_name(app, taken={each.name for each in self.views()} | self._names_in_use | refused)
            # two callers at once must not be given the same name
            self._names_in_use.add(name)
            try:
                return answer(await self.attach(body.request(name, peer=peer), peer=peer), status=201)
            except Conflict as error:
                # another caller has asked for this very name meanwhile, or its last attachment is still on the way out; any
                # other clash is the caller's
                if error.taken != name:
                    raise
                refused.add(name)
            finally:
                self._names_in_use.discard(name)

    async def remove(self, request: web.Request) -> web.Response:
        """Detach; what is not there is no error."""
        return answer({"detached": await self.detach(check_name(request.match_info["name"]))})

    async def attach(self, request: AttachRequest, *, peer: Peer) -> AttachmentInFull:
        """All of it is in place and listening, or nothing is. Conflict for a name whose namespace lives."""
        self.refuse_own_ports(request)
        try:
            return await self._in_full(await self._attaching.attach(request, peer=peer))
        except RAISED as error:
            self._refused.add(self._now(), f"{request.name}: {error.what}")
            self._metrics.refused_attaches.labels(type(error).__name__).inc()
            raise

    def refuse_own_ports(self, request: AttachRequest) -> None:
        """Raises InvalidInput."""
        for port in sorted(self._facts.own_ports.intersection(request.tcp_ports())):
            raise InvalidInput(
                f"port {port} is cellnet's own in every container",
                hint="have the app listen on another, and name that with --port or --tls-target",
            )
        for each in request.publish:
            if each.to is not None:
                for port in sorted(self._facts.own_ports.intersection(each.inside(tls_port=self._facts.tls_port))):
                    raise InvalidInput(
                        f"port {port} is cellnet's own in every container, and is not published",
                        hint=f"{each.first}:tls publishes the port that terminates TLS",
                    )

    async def detach(self, name: str) -> bool:
        """False if there was none of that name."""
        return await self._attaching.detach(name)

    def views(self) -> tuple[AttachmentView, ...]:
        """All that are in place."""
        return tuple(map(self._view, self._attaching.attached()))

    async def in_full(self, name: str) -> AttachmentInFull | None:
        """The one of that name, if it is in place."""
        found = next((each for each in self._attaching.attached() if each.name == name), None)
        return None if found is None else await self._in_full(found)

    async def _in_full(self, held: Attachment) -> AttachmentInFull:
        if held.publish:
            await self._published.look()
        view, paths, resolver = self._view(held), self._files.paths(held.name), self._files.resolv_conf(held.app)
        environment = await self._files.environments.of(held)
        return AttachmentInFull(
            **{each.name: getattr(view, each.name) for each in fields(view)},
            environment=environment.variables,
            warnings=environment.warnings,
            environment_file=paths.environment,
            dns=DnsView(resolver.nameservers, resolver.search, resolver.options, paths.resolv_conf),
            pin=pin_of(held.name, pins=self._facts.pins),
        )

    def _view(self, held: Attachment) -> AttachmentView:
        return AttachmentView(
            name=held.name,
            app=str(held.app),
            instance=held.instance,
            address=held.address,
            ports=tuple(each.json for each in held.ports),
            routes=self._naming.routes(held.app, held.routes, self._naming.held()),
            interface=held.interface,
            tls=self._tls(held),
            ready=self._is_ready(held),
            limits=as_written(held.limits),
            publish=tuple(
                PublishedView.of(each, tls_port=self._facts.tls_port, served=self._published.is_served(held, each))
                for each in held.publish
            ),
        )

    def _tls(self, held: Attachment) -> TlsView:
        state, ends = self._listeners.tls_state(held.address), self._leaves.not_after(held.name)
        has_ended = ends is not None and ends < self._now()
        return TlsView(TlsState.EXPIRED if has_ended and state is TlsState.READY else state, ends)


def free_name(app: AppName, *, taken: AbstractSet[str]) -> str:
    """The name of an attachment whose caller gave none: `api`, then `api-1`, `api-2` …"""
    number, name = 0, app.app
    while name in taken:
        number += 1
        name = f"{app.app[:56]}-{number}"
    return name
