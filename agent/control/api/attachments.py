"""`/v1/attachments`: containers that are put on the overlay, listed, shown and taken off."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, Protocol

from aiohttp import web
from pydantic import Field

from agent.control.bodies import Body, read_body
from agent.control.errors import answer, not_found
from agent.control.peer import PEER, Peer
from agent.envoy.listeners import TlsState
from agent.errors import Conflict, InvalidInput
from agent.model.attachment import AttachRequest, check_name
from agent.model.names import AppName
from agent.wording import natural


@dataclass(frozen=True, slots=True)
class TlsView:
    """`not_after`: when its certificate ends (UTC), None while it has none."""

    state: TlsState
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """An attachment with what its caller needs: `environment` is for the container's processes, `pin` holds its namespace."""

    name: str
    app: str
    instance: int
    address: IPv4Address
    ports: tuple[int, ...]
    routes: tuple[str, ...]
    interface: str
    tls: TlsView
    environment: Mapping[str, str]
    pin: Path


LEFT_OUT_OF_LISTS = {"environment", "pin"}


class AttachmentService(Protocol):
    """The questions about attachments."""

    async def attach(self, request: AttachRequest, *, peer: Peer) -> AttachmentView:
        """All of it is in place and listening, or nothing is. Conflict for a name whose namespace lives."""

    async def detach(self, name: str) -> bool:
        """False if there was none of that name, which is no error."""

    async def attachments(self) -> tuple[AttachmentView, ...]:
        """All."""

    async def attachment(self, name: str) -> AttachmentView | None:
        """The one of that name."""


class AttachBody(Body):
    """`PUT /v1/attachments/{name}`. `owner`: what ends it, the namespace or the process that calls."""

    app: str
    netns: str
    instance: int | None = None
    interface: str = "eth0"
    ports: tuple[int, ...] = Field(default=(), max_length=256)
    routes: tuple[str, ...] = Field(default=(), max_length=256)
    tls_target: int | None = None
    tls_http: bool = False
    owner: Literal["namespace", "caller"] = "namespace"

    def request(self, name: str, *, peer: Peer) -> AttachRequest:
        """The value for the service; the owner's pid is the kernel's word, not the caller's."""
        if self.owner == "caller" and not peer.pid:
            raise InvalidInput("the caller's process cannot be seen from here", hint="call from the agent's pid namespace")
        return AttachRequest(
            name=name,
            app=AppName.parse(self.app),
            netns=Path(self.netns),
            instance=self.instance,
            interface=self.interface,
            ports=self.ports,
            routes=self.routes,
            tls_target=self.tls_target,
            tls_http=self.tls_http,
            owner_pid=peer.pid if self.owner == "caller" else None,
        )


class AttachmentsApi:
    """The handlers."""

    def __init__(self, service: AttachmentService) -> None:
        self._service = service
        self._names_in_use: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/v1/attachments", self.list_all),
            web.post("/v1/attachments", self.attach_without_a_name),
            web.get("/v1/attachments/{name}", self.show),
            web.put("/v1/attachments/{name}", self.attach),
            web.delete("/v1/attachments/{name}", self.detach),
        ]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All attachments."""
        found = sorted(await self._service.attachments(), key=lambda each: natural(each.name))
        return answer(found, exclude={"__all__": LEFT_OUT_OF_LISTS})

    async def show(self, request: web.Request) -> web.Response:
        """One attachment, with environment and pin."""
        name = request.match_info["name"]
        found = await self._service.attachment(name)
        if found is None:
            return not_found(f"there is no attachment '{name}'", hint="see 'cellnet ps'")
        return answer(found)

    async def attach(self, request: web.Request) -> web.Response:
        """Attach under the caller's name."""
        body, peer = await read_body(AttachBody, request), request[PEER]
        asked = body.request(request.match_info["name"], peer=peer)
        return answer(await self._service.attach(asked, peer=peer), status=201)

    async def attach_without_a_name(self, request: web.Request) -> web.Response:
        """Attach under a name that is made up here."""
        body, peer = await read_body(AttachBody, request), request[PEER]
        app = AppName.parse(body.app)
        refused: set[str] = set()
        while True:
            attached = {each.name for each in await self._service.attachments()}
            name = free_name(app, taken=attached | self._names_in_use | refused)
            # two callers at once must not be given the same name
            self._names_in_use.add(name)
            try:
                return answer(await self._service.attach(body.request(name, peer=peer), peer=peer), status=201)
            except Conflict as error:
                # another caller has asked for this very name meanwhile, or its last attachment is still on the way out; any
                # other clash is the caller's
                if error.taken != name:
                    raise
                refused.add(name)
            finally:
                self._names_in_use.discard(name)

    async def detach(self, request: web.Request) -> web.Response:
        """Detach; what is not there is no error."""
        return answer({"detached": await self._service.detach(check_name(request.match_info["name"]))})


def free_name(app: AppName, *, taken: AbstractSet[str]) -> str:
    """The name of an attachment whose caller gave none: `api`, then `api-1`, `api-2` …"""
    number, name = 0, app.app
    while name in taken:
        number += 1
        name = f"{app.app[:56]}-{number}"
    return name
