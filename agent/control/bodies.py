"""Bodies and queries from outside: checked here, then values. Unknown fields are refused, since a typo must not pass."""

import difflib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from agent.control.service import Peer
from agent.errors import InvalidInput
from agent.model.attachment import AttachRequest
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.policy import Protocol
from agent.policy.ports import parse_one

SYNC_LIMIT = 300.0
"""Seconds that a caller may ask `sync` to wait."""


class Body(BaseModel):
    """What all bodies share: exact JSON types and no field that we do not know."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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


class CredentialsBody(Body):
    """Who writes to the store, for this one request: username and password, or cert and key (PEM)."""

    username: str | None = Field(default=None, max_length=128)
    password: str | None = Field(default=None, repr=False)
    cert: str | None = Field(default=None, repr=False)
    key: str | None = Field(default=None, repr=False)


class OperatorBody(Body):
    """What every change of the store may have, and all that is in the body of a DELETE."""

    store_credentials: CredentialsBody | None = None

    def credentials(self) -> StoreCredentials | None:
        """The value for the service. Raises InvalidInput for a half."""
        given = self.store_credentials
        if given is None:
            return None
        return StoreCredentials(username=given.username, password=given.password, cert=given.cert, key=given.key)


class AllowBody(OperatorBody):
    """`POST /v1/policies/allow`. Ports as tcp/8080, udp/9000-9010, tcp/any."""

    source: str = Field(alias="from")
    to: str
    ports: tuple[str, ...] = Field(min_length=1, max_length=256)
    name: str | None = None


class ApplyBody(OperatorBody):
    """`POST /v1/policies/apply`: the text of a policy file."""

    document: str


class TrustBody(OperatorBody):
    """`POST /v1/ca/trust`: roots in PEM, this cell's own if none are given; `add` keeps those that are there."""

    roots: str | None = Field(default=None, min_length=1)
    add: bool = False


class SyncBody(Body):
    """`POST /v1/sync`: seconds to wait."""

    timeout: float = Field(default=10.0, ge=0, le=SYNC_LIMIT)


Kind = TypeVar("Kind", bound=Body)


def parse(kind: type[Kind], body: bytes) -> Kind:
    """The body as `kind`. Raises InvalidInput that names every field that is wrong."""
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        found = error.errors(include_url=False)
        hint = next((text for each in found if (text := _suggestion(kind, each))), "see docs/api.md")
        raise InvalidInput("; ".join(_words(each) for each in found), hint=hint) from error


def _words(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown field '{where}'"
    if error["type"] == "missing":
        return f"field '{where}' is missing"
    return f"{where}: {error['msg']}" if where else error["msg"]


def _suggestion(kind: type[Body], error: ErrorDetails) -> str:
    if error["type"] != "extra_forbidden" or not error["loc"]:
        return ""
    known = [field.alias or name for name, field in kind.model_fields.items()]
    close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"


def free_name(app: AppName, *, taken: AbstractSet[str]) -> str:
    """The name of an attachment whose caller gave none: `api`, then `api-1`, `api-2` …"""
    number, name = 0, app.app
    while name in taken:
        number += 1
        name = f"{app.app[:56]}-{number}"
    return name


@dataclass(frozen=True, slots=True)
class Check:
    """The question of `GET /v1/policies/check`."""

    source: AppName
    destination: AppName
    protocol: Protocol
    port: int


def parse_check(query: Mapping[str, str]) -> Check:
    """`from`, `to` and `port` (tcp/8080) of a query. Raises InvalidInput."""
    if set(query) != {"from", "to", "port"}:
        raise InvalidInput(
            f"the query has {', '.join(sorted(query)) or 'nothing'}", hint="give from=, to= and port=, each once"
        )
    protocol, port = parse_one(query["port"])
    return Check(AppName.parse(query["from"]), AppName.parse(query["to"]), protocol, port)
