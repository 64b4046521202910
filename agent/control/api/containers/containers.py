"""`/v1/containers`: what the plugins of container engines ask, by the engine's own ids, and what is reserved for names."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from aiohttp import web
from pydantic import Field

from agent.attach.engine_containers import EngineContainers, name_of
from agent.attach.reserved_places import ReservedPlaces
from agent.attach.transaction import AttachTransactions
from agent.control.api.containers.attachments import AttachmentsApi
from agent.control.api.containers.bodies import InstanceBody, PublishBody
from agent.control.api.containers.views import AttachmentInFull, DnsView
from agent.control.bodies import Body, read_body
from agent.control.errors import answer
from agent.control.peer import PEER
from agent.errors import InvalidInput
from agent.model.attachment import AttachRequest, check_name
from agent.model.engine_container import EngineContainer
from agent.model.limits import as_written
from agent.model.names import AppName
from agent.model.reservation import Reservation
from dataplane.tables import container_mac, host_interface, host_mac

MOST = 65_536
"""Containers that an engine may name at once."""
NOWHERE = "/"
HOW = (
    "say it with --network-alias ORG/SPACE/APP, with CELLNET_APP in CNI_ARGS, as `app` of the network's configuration, or "
    "reserve the container's name: cellnet reserve {name} --app ORG/SPACE/APP"
)


class ContainerBody(Body):
    """`PUT /v1/containers/{id}/{interface}`. `app` is what the container says of itself, `default_app` its network. An engine
    that makes networks anew asks for the `address` and `mac` that the container had.
    """

    network: str
    netns: str
    name: str | None = None
    app: str | None = None
    default_app: str | None = None
    address: str | None = None
    mac: str | None = None
    ports: tuple[int | str, ...] = Field(default=(), max_length=256)
    routes: tuple[str, ...] = Field(default=(), max_length=256)
    publish: tuple[PublishBody, ...] = Field(default=(), max_length=256)


class KeepBody(Body):
    """`POST /v1/containers/keep`: those of a network that the engine still has, each an id and an interface."""

    network: str
    containers: tuple[Annotated[tuple[str, ...], Field(min_length=2, max_length=2)], ...] = Field(max_length=MOST)


@dataclass(frozen=True, slots=True)
class ContainerView(AttachmentInFull):
    """An attachment in full, with what the kernel has of it: `mac` inside, and the host's end of its link."""

    mac: str
    host_interface: str
    host_mac: str


class ContainersApi:
    """The handlers. `attachments` attaches and detaches, `attaching` has what is attached."""

    def __init__(
        self,
        attachments: AttachmentsApi,
        *,
        attaching: AttachTransactions,
        places: ReservedPlaces,
    ) -> None:
        self._attachments = attachments
        self._attaching = attaching
        self._places = places
        self._containers = EngineContainers(
            attaching.attached,
            attach=lambda request, peer: attachments.attach(request, peer=peer),
            detach=attachments.detach,
        )

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/v1/containers", self.ready),
            web.post("/v1/containers/keep", self.keep),
            web.get("/v1/containers/{id}/{interface}", self.show),
            web.put("/v1/containers/{id}/{interface}", self.add),
            web.delete("/v1/containers/{id}/{interface}", self.remove),
            web.get("/v1/reservations", self.list_reserved),
            web.put("/v1/reservations/{name}", self.reserve),
            web.delete("/v1/reservations/{name}", self.release),
        ]

    async def ready(self, _request: web.Request) -> web.Response:
        """Whether containers can be attached now; else it fails with what an attach would fail with."""
        await self._attaching.await_readiness()
        return answer({"ready": True})

    async def add(self, request: web.Request) -> web.Response:
        """Attach, in place of what this container has had in another namespace."""
        body, peer = await read_body(ContainerBody, request), request[PEER]
        container = EngineContainer(*_key(request), body.network)
        reserved = self._places.all().get(name_of(container, body.name))
        asked = replace(_asked(body, container, reserved), address=self._wanted(body, container))
        name = await self._containers.add(asked, peer=peer, exactly=reserved is not None)
        return answer(await self._view(name), status=201)

    def _wanted(self, body: ContainerBody, container: EngineContainer) -> IPv4Address | None:
        """The address that the container had last, where its engine asks for it. Raises InvalidInput for any other."""
        had = self._containers.last_address(container.id, container.interface)
        for asked, own, what in (
            (body.address, str(had), "an address"),
            (body.mac, "" if had is None else container_mac(had), "a hardware address"),
        ):
            if asked is not None and asked.lower() != own:
                raise InvalidInput(f"the engine asks for {what}, which cellnet gives itself", hint="leave it out")
        return None if body.address is None else had

    async def show(self, request: web.Request) -> web.Response:
        """What a container of an engine has."""
        return answer(await self._view(self._containers.named(*_key(request)).name))

    async def remove(self, request: web.Request) -> web.Response:
        """Detach; what is not there is no error."""
        return answer({"detached": await self._containers.remove(*_key(request))})

    async def keep(self, request: web.Request) -> web.Response:
        """Detach those of a network that the engine no longer has."""
        body = await read_body(KeepBody, request)
        wanted = {(identity, interface) for identity, interface in body.containers}
        return answer({"detached": await self._containers.keep(body.network, wanted)})

    async def list_reserved(self, _request: web.Request) -> web.Response:
        """All reservations, by name."""
        return answer([await self._shown(each) for each in self._places.all().values()])

    async def reserve(self, request: web.Request) -> web.Response:
        """In place of what was reserved for this name, whose place it has if it is of the same app."""
        body, name = await read_body(InstanceBody, request), check_name(request.match_info["name"])
        reserved = Reservation.of(body.at(NOWHERE, name=name))
        self._attachments.refuse_own_ports(reserved.request(EngineContainer("any", "eth0", "any"), netns=Path(NOWHERE)))
        return answer(await self._shown(await self._places.reserve(reserved)), status=201)

    async def release(self, request: web.Request) -> web.Response:
        """What is attached stays attached; what is not there is no error."""
        return answer({"released": await self._places.release(check_name(request.match_info["name"]))})

    async def _view(self, name: str) -> ContainerView:
        found = await self._attachments.in_full(name)
        if found is None:
            raise InvalidInput(f"'{name}' was detached meanwhile", hint="start the container again")
        own = {each.name: getattr(found, each.name) for each in fields(AttachmentInFull)}
        return ContainerView(
            **own, mac=container_mac(found.address), host_interface=host_interface(found.address),
            host_mac=host_mac(found.address),
        )  # fmt: skip

    async def _shown(self, reserved: Reservation) -> Mapping[str, object]:
        files = self._places.files
        dns, paths = files.resolv_conf(reserved.app), files.paths(reserved.name)
        environment, place = await files.reserved_environment(reserved), reserved.place
        return {
            "name": reserved.name,
            "app": str(reserved.app),
            "instance": reserved.instance if place is None else place.instance,
            "address": None if place is None else place.address,
            "ports": [each.json for each in reserved.ports],
            "routes": reserved.routes,
            "services": [str(each) for each in reserved.services],
            "publish": [str(each) for each in reserved.publish],
            "limits": as_written(reserved.limits),
            "environment": environment.variables,
            "warnings": environment.warnings,
            "environment_file": paths.environment,
            "dns": DnsView(dns.nameservers, dns.search, dns.options, paths.resolv_conf),
        }


def _key(request: web.Request) -> tuple[str, str]:
    return request.match_info["id"], request.match_info["interface"]


def _asked(body: ContainerBody, container: EngineContainer, reserved: Reservation | None) -> AttachRequest:
    """The nearest word counts: the container's own, its reservation's, its network's."""
    name = name_of(container, body.name)
    if reserved is not None:
        if body.app is not None and AppName.parse(body.app) != reserved.app:
            raise InvalidInput(
                f"'{name}' is reserved for {reserved.app}, and this container says that it is {body.app}",
                hint=f"leave that out, or see 'cellnet reserve --help' and 'cellnet release {name}'",
            )
        asked = reserved.request(container, netns=Path(body.netns))
        return replace(asked, publish=tuple(each.publication() for each in body.publish)) if body.publish else asked
    app = body.app or body.default_app
    if app is None:
        raise InvalidInput(f"nothing says which app '{name}' is", hint=HOW.format(name=name))
    own = InstanceBody(app=app, ports=body.ports, routes=body.routes, publish=body.publish)
    return replace(own.at(body.netns, name=name, interface=container.interface), container=container)
