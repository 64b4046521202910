"""`/v1/policies`: what is allowed, listed, checked, and changed in the store."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from aiohttp import web
from pydantic import Field

from agent.control.bodies import OperatorBody, read_body
from agent.control.errors import answer, not_found
from agent.errors import InvalidInput
from agent.model import policy
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.policy import Policy, Scope
from agent.policy.ports import parse_one

STRETCH = 100
"""Policies that are written before other tasks have their turn: one or two milliseconds."""


def view(held: Policy) -> Mapping[str, object]:
    """One policy, in the words of the policy file; it has no line and column where the store has it."""
    return {
        "name": held.name,
        "from": [each.value if isinstance(each, Scope) else str(each) for each in held.sources],
        "to": str(held.to),
        "tcp": list(map(str, held.tcp)),
        "udp": list(map(str, held.udp)),
        "origin": {"source": held.origin.source, "line": held.origin.line or None, "column": held.origin.column or None},
    }


class PolicyList:
    """The answer that lists all policies, written when they have changed: what is new of them, a stretch at a time."""

    def __init__(self) -> None:
        self._policies: tuple[Policy, ...] = ()
        self._parts: list[str] = []
        self._text = b"[]\n"
        self._writing = asyncio.Lock()

    async def text(self, policies: tuple[Policy, ...]) -> bytes:
        """JSON. All that ask meanwhile wait for the one that writes it."""
        async with self._writing:
            if self._policies is not policies:
                known, parts = dict(zip(map(id, self._policies), self._parts, strict=True)), list[str]()
                for first in range(0, len(policies), STRETCH):
                    parts += [known.get(id(each)) or json.dumps(view(each)) for each in policies[first : first + STRETCH]]
                    await asyncio.sleep(0)
                self._policies, self._parts, self._text = policies, parts, f"[{', '.join(parts)}]\n".encode()
            return self._text


@dataclass(frozen=True, slots=True)
class CheckResult:
    """May a source reach a destination: the policy that says so, the one that allows the other direction, and all ports that
    the source may reach there (as tcp/8080)."""

    by: Policy | None
    reverse: Policy | None
    ports: tuple[str, ...]


class PolicyService(Protocol):
    """The questions about policies."""

    async def policies(self) -> tuple[Policy, ...]:
        """All that are in force, of files and of the store."""

    async def allow_policy(
        self, source: str, *, to: str, ports: tuple[str, ...], name: str | None, credentials: StoreCredentials | None
    ) -> str:
        """Put one policy into the store, written as on the command line (`ports` as tcp/8080), and return its name.

        Here and below, `credentials` bring the rights to change the store with: the cell's own for None. InvalidInput where
        the store is not one that takes any.
        """

    async def apply_policies(self, document: str, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        """Put the policies of a YAML document into the store, replacing those of the same names, which are returned."""

    async def delete_policy(self, name: str, *, credentials: StoreCredentials | None) -> bool:
        """Take one out of the store. False if there was none of that name there; Conflict for one of a file."""

    async def accept_loss(self, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        """Give up the policies that are held since the store lost its data, on all cells. Names those held here."""

    async def check(self, source: AppName, *, destination: AppName, protocol: policy.Protocol, port: int) -> CheckResult:
        """What the policies in force say about a connection."""


class AllowBody(OperatorBody):
    """`POST /v1/policies/allow`. Ports as tcp/8080, udp/9000-9010, tcp/any."""

    source: str = Field(alias="from")
    to: str
    ports: tuple[str, ...] = Field(min_length=1, max_length=256)
    name: str | None = None


class ApplyBody(OperatorBody):
    """`POST /v1/policies/apply`: the text of a policy file."""

    document: str


@dataclass(frozen=True, slots=True)
class ConnectionQuery:
    """The question of `GET /v1/policies/check`."""

    source: AppName
    destination: AppName
    protocol: policy.Protocol
    port: int

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """`from`, `to` and `port` (tcp/8080) of a query. Raises InvalidInput."""
        if set(query) != {"from", "to", "port"}:
            raise InvalidInput(
                f"the query has {', '.join(sorted(query)) or 'nothing'}", hint="give from=, to= and port=, each once"
            )
        protocol, port = parse_one(query["port"])
        return cls(AppName.parse(query["from"]), AppName.parse(query["to"]), protocol, port)


class PoliciesApi:
    """The handlers."""

    def __init__(self, service: PolicyService) -> None:
        self._service = service
        self._list = PolicyList()

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/v1/policies", self.list_all),
            web.post("/v1/policies/allow", self.allow),
            web.post("/v1/policies/apply", self.apply),
            web.post("/v1/policies/accept-loss", self.accept_loss),
            web.get("/v1/policies/check", self.check),
            web.delete("/v1/policies/{name}", self.delete),
        ]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All policies in force."""
        text = await self._list.text(await self._service.policies())
        return web.Response(body=text, content_type="application/json")

    async def allow(self, request: web.Request) -> web.Response:
        """One policy into the store."""
        body = await read_body(AllowBody, request)
        name = await self._service.allow_policy(
            body.source, to=body.to, ports=body.ports, name=body.name, credentials=body.credentials()
        )
        return answer({"name": name}, status=201)

    async def apply(self, request: web.Request) -> web.Response:
        """A document's policies into the store."""
        body = await read_body(ApplyBody, request)
        return answer({"names": await self._service.apply_policies(body.document, credentials=body.credentials())})

    async def delete(self, request: web.Request) -> web.Response:
        """One policy out of the store."""
        name, body = request.match_info["name"], await read_body(OperatorBody, request)
        if not await self._service.delete_policy(name, credentials=body.credentials()):
            return not_found(f"there is no policy '{name}' in the store", hint="see 'cellnet policy list'")
        return answer({"deleted": True})

    async def accept_loss(self, request: web.Request) -> web.Response:
        """What the store has lost is given up."""
        body = await read_body(OperatorBody, request)
        return answer({"names": await self._service.accept_loss(credentials=body.credentials())})

    async def check(self, request: web.Request) -> web.Response:
        """What the policies say about one connection."""
        asked = ConnectionQuery.parse(dict(request.query))
        found = await self._service.check(asked.source, destination=asked.destination, protocol=asked.protocol, port=asked.port)
        by, reverse = found.by, found.reverse
        return answer({
            "allowed": by is not None,
            "by": None if by is None else by.name,
            "origin": None if by is None else str(by.origin),
            "reverse": None if reverse is None else {"by": reverse.name, "origin": str(reverse.origin)},
            "ports": found.ports,
        })  # fmt: skip
