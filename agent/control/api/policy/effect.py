"""`/v1/policies/diff` and `/v1/policies/matrix`: who may reach whom, and what a change would make of that."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import PurePath

from aiohttp import web
from pydantic import Field

from agent.control.api.policy.view import view
from agent.control.bodies import Body, read_body
from agent.control.errors import answer
from agent.errors import InvalidInput
from agent.insight.foreseen_cuts import ForeseenCuts
from agent.model.names import AppName, Space
from agent.model.policy import Policy
from agent.policy.effect import Effect, effect
from agent.policy.in_force import PoliciesInForce
from agent.policy.known_apps import KnownApps
from agent.policy.language.terms import AUDIT
from agent.policy.oddities import Oddity, oddities
from agent.policy.of_cells import PoliciesOfCells
from agent.policy.proposal import Proposal
from agent.policy.rights.edges import Edge, Roll, matrix
from agent.reader_threads import in_reader_thread

Foresee = Callable[[tuple[Policy, ...]], Awaitable[ForeseenCuts]]
"""What of the live connections of this cell would be cut under some policies."""
FILE_NAME = re.compile(r"[^./\0][^/\0]*\.yaml")
MOST_EDGES = 50_000


class DiffBody(Body):
    """`POST /v1/policies/diff`: as agent/policy/proposal.py has it. It changes nothing."""

    files: Mapping[str, str] = Field(default_factory=dict)
    whole: bool = False
    document: str | None = None
    names: tuple[str, ...] = ()
    space: str | None = None

    def proposal(self) -> Proposal:
        """The value. Raises InvalidInput for what cannot be the name of a file of the directory."""
        for name in self.files:
            if FILE_NAME.fullmatch(name) is None:
                raise InvalidInput(f"'{name}' is not the name of a policy file", hint="such as shop.yaml, without a folder")
        space = None if self.space is None else Space.parse(self.space)
        return Proposal(self.files, whole=self.whole, document=self.document, names=self.names, space=space)


class PolicyEffectApi:
    """The handlers. All only read, and work beside the loop: there may be many pairs. `running` are the apps that have
    instances, or are declared.
    """

    def __init__(
        self, policies: PoliciesInForce, *, known: KnownApps, cuts: Foresee, running: Callable[[], Iterable[AppName]],
        of_cells: PoliciesOfCells,
    ) -> None:  # fmt: skip
        self._policies = policies
        self._running = running
        self._cuts = cuts
        self._of_cells = of_cells
        self._known = known

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [
            web.post("/v1/policies/diff", self.diff),
            web.post("/v1/policies/validate", self.validate),
            web.get("/v1/policies/matrix", self.matrix),
        ]

    async def diff(self, request: web.Request) -> web.Response:
        """What a change would do."""
        body = await read_body(DiffBody, request)
        proposal = body.proposal()
        before, after = await self._policies.if_changed(proposal)
        known = await self._known.named()
        found = await in_reader_thread(lambda: effect(before, after, known=known))
        seen = await self._cuts(after)
        unseen = 0 if proposal.files or proposal.whole else seen.other_cells  # files are of this cell alone
        cuts = {"count": seen.count, "lines": seen.lines, "other_cells": unseen}
        deletes = proposal.leaving(await self._policies.from_store())
        return answer({**_effect(found), "cuts": cuts, "deletes": deletes})

    async def validate(self, request: web.Request) -> web.Response:
        """What is odd about policies of files beside all that are written, whether they are there already or not."""
        body = await read_body(DiffBody, request)
        _, after = await self._policies.if_changed(body.proposal())
        ours = [each for each in after if each.origin.line and PurePath(each.origin.source).name in body.files]
        existing = self._known.routed().union(self._running())
        found = await in_reader_thread(lambda: list(oddities(ours, after, known=existing)))
        return answer({"warnings": [_oddity(each) for each in found]})

    async def matrix(self, request: web.Request) -> web.Response:
        """Who may reach whom now, on any cell."""
        app = _asked(request.query)
        roll, policies = Roll(await self._known.named()), await self._of_cells.everywhere()
        found = await in_reader_thread(lambda: matrix(policies, roll, app=app))
        if len(found) > MOST_EDGES:
            raise InvalidInput(f"{len(found):,} pairs of apps may reach each other", hint="ask for those of one app")
        return answer(_edges(found))


def _asked(query: Mapping[str, str]) -> AppName | None:
    if set(query) - {"app"}:
        raise InvalidInput(f"the query has {', '.join(sorted(query))}", hint="give app=, once, or nothing")
    return AppName.parse(query["app"]) if "app" in query else None


def _oddity(found: Oddity) -> Mapping[str, object]:
    where = found.origin
    return {"file": PurePath(where.source).name, "line": where.line, "column": where.column, "message": found.what}


def _effect(found: Effect) -> Mapping[str, object]:
    return {
        "added": list(map(view, found.added)),
        "removed": list(map(view, found.removed)),
        "opens": _edges(found.opens),
        "closes": _edges(found.closes),
        "more": found.more,
        "notices": found.notices,
    }


def _edges(found: Iterable[Edge]) -> list[Mapping[str, object]]:
    return [{"from": each.source, "to": each.to, "ports": each.ports, "mode": AUDIT if each.audit else None} for each in found]
