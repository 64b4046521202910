"""What is asked for an attachment, or for a container to come: bodies of the API, and the values they are for the service."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from agent.control.bodies import Body
from agent.errors import InvalidInput
from agent.model.app_port import AppPort
from agent.model.attachment import AttachRequest
from agent.model.key_owner import ROOT, KeyOwner
from agent.model.limits import limits_of
from agent.model.names import AppName
from agent.model.peer import Peer
from agent.model.publication import Publication, published_address
from dataplane.state import Limits, TargetHttp


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
