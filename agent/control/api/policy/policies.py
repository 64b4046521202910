"""`/v1/policies`: what is allowed, listed, checked, and changed in the store."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial

from aiohttp import web
from pydantic import Field

from agent.control.api.policy.check import OutsideDefaults, PolicyCheck
from agent.control.api.policy.effect import Foresee, PolicyEffectApi
from agent.control.api.policy.one import OnePolicyApi
from agent.control.api.policy.view import view
from agent.control.bodies import OperatorBody, read_body
from agent.control.enforced_change import enforced
from agent.control.enforcement import Enforcement
from agent.control.errors import JSON, answer
from agent.errors import InvalidInput
from agent.insight.history.policy_trail import PolicyTrail
from agent.model.names import AppName
from agent.model.policy import Pattern, Policy
from agent.policy.in_force import PoliciesInForce
from agent.policy.known_apps import KnownApps
from agent.policy.language.terms import parse_end, parse_mode
from agent.policy.mistaken_names import notices
from agent.policy.of_cells import PoliciesOfCells
from agent.policy.rights.edges import speaks_of
from agent.reader_threads import in_reader_thread

STRETCH = 100
"""Policies that are written before other tasks have their turn: one or two milliseconds."""


class PolicyList:
    """The answer that lists all policies, written when they have changed: what is new of them, a stretch at a time."""

    def __init__(self) -> None:
        self._policies: tuple[Policy, ...] = ()
        self._holding: tuple[Policy, ...] = ()
        self._parts: list[str] = []
        self._text = b"[]\n"
        self._writing = asyncio.Lock()

    async def text(self, policies: tuple[Policy, ...], *, holding: tuple[Policy, ...]) -> bytes:
        """JSON of all that are written, of which some hold now. All that ask meanwhile wait for the one that writes it."""
        async with self._writing:
            if self._policies is not policies or self._holding is not holding:
                known = {id(each): part for each, part in zip(self._policies, self._parts, strict=True) if each.until is None}
                held, parts = frozenset(map(id, holding)), list[str]()
                for first in range(0, len(policies), STRETCH):
                    stretch = policies[first : first + STRETCH]
                    parts += [known.get(id(each)) or json.dumps(view(each, ended=id(each) not in held)) for each in stretch]
                    await asyncio.sleep(0)
                self._policies, self._holding, self._parts = policies, holding, parts
                self._text = f"[{', '.join(parts)}]\n".encode()
            return self._text


class AllowBody(OperatorBody):
    """`POST /v1/policies/allow`. Ends as acme/shop/web, 192.0.2.0/24, api.example.com, ports as tcp/8080, udp/9000-9010.

    `mode` is audit or nothing, `until` a moment (2026-12-31T18:00Z) or a span from now on (2h).
    """

    source: str = Field(alias="from")
    to: str
    ports: tuple[str, ...] = Field(min_length=1, max_length=256)
    name: str | None = None
    mode: str | None = None
    until: str | None = None
    note: str = ""


class ApplyBody(OperatorBody):
    """`POST /v1/policies/apply`: the text of a policy file."""

    document: str


class PoliciesApi:
    """The handlers. A change is answered when its effect is there."""

    def __init__(
        self, policies: PoliciesInForce, *, known: KnownApps, enforcement: Enforcement, defaults: OutsideDefaults,
        now: Callable[[], datetime], cuts: Foresee, running: Callable[[], Iterable[AppName]], trail: PolicyTrail,
        of_cells: PoliciesOfCells,
    ) -> None:  # fmt: skip
        self._policies = policies
        self._now = now
        self._known = known
        self._check = PolicyCheck(policies, known=known, defaults=defaults, of_cells=of_cells)
        self._effect = PolicyEffectApi(policies, known=known, cuts=cuts, running=running, of_cells=of_cells)
        self._enforced = partial(enforced, enforcement=enforcement, trail=trail)
        self._one = OnePolicyApi(policies, enforced=self._enforced)
        self._list = PolicyList()

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.get("/v1/policies", self.list_all),
            web.post("/v1/policies/allow", self.allow),
            web.post("/v1/policies/apply", self.apply),
            web.post("/v1/policies/accept-loss", self.accept_loss),
            web.get("/v1/policies/check", self.check),
            *self._effect.routes(),
            *self._one.routes(),
        ]

    async def list_all(self, request: web.Request) -> web.Response:
        """All policies that are written, those that have ended included, or those that speak of one app."""
        written, holding = await self._policies.written(), await self._policies.in_force()
        if request.query:
            asked = partial(_asked_for, written, holding, asked_about(request.query))
            return answer(await in_reader_thread(asked))  # there may be 60,000
        return web.Response(body=await self._list.text(written, holding=holding), content_type=JSON)

    async def allow(self, request: web.Request) -> web.Response:
        """One policy into the store."""
        body = await read_body(AllowBody, request)
        patterns = filter(None, map(_pattern, (body.source, body.to)))
        found = notices(patterns, named=await self._known.named(), is_new=True)
        until = None if body.until is None else parse_end(body.until, now=self._now())
        audit = body.mode is not None and parse_mode(body.mode)
        name = await self._policies.allow(
            body.source, to=body.to, ports=body.ports, name=body.name, audit=audit, until=until, note=body.note,
            writer=body.credentials(),
        )  # fmt: skip
        await self._enforced(request, "put", (name,), writer=body.credentials())
        return answer({"name": name, "notices": found}, status=201)

    async def apply(self, request: web.Request) -> web.Response:
        """A document's policies into the store."""
        body = await read_body(ApplyBody, request)
        names = await self._policies.apply(body.document, writer=body.credentials())
        await self._enforced(request, "put", names, writer=body.credentials())
        return answer({"names": names})

    async def accept_loss(self, request: web.Request) -> web.Response:
        """What the store has lost is given up."""
        body = await read_body(OperatorBody, request)
        names = await self._policies.accept_loss(writer=body.credentials())
        await self._enforced(request, "given up", names, writer=body.credentials())
        return answer({"names": names})

    async def check(self, request: web.Request) -> web.Response:
        """What the policies say about one connection."""
        return answer(await self._check.answer(dict(request.query)))


def asked_about(query: Mapping[str, str]) -> Callable[[Policy], bool]:
    """Which policies a query means: `app`, at either end, or `to`, as the destination. Raises InvalidInput."""
    if len(query) != 1 or not set(query) <= {"app", "to"}:
        raise InvalidInput(f"the query has {', '.join(sorted(query))}", hint="give app= or to=, once, or nothing")
    ((end, text),) = query.items()
    app = AppName.parse(text)
    if end == "to":
        return lambda each: isinstance(each.to, Pattern) and each.to.matches(app)
    return lambda each: speaks_of(each, app)


def _asked_for(
    written: tuple[Policy, ...], holding: tuple[Policy, ...], speaks: Callable[[Policy], bool]
) -> list[Mapping[str, object]]:
    held = frozenset(map(id, holding))
    return [view(each, ended=id(each) not in held) for each in written if speaks(each)]


def _pattern(text: str) -> Pattern | None:
    """None for a scope, and for what is refused anyhow."""
    with contextlib.suppress(InvalidInput):
        return Pattern.parse(text)
    return None
