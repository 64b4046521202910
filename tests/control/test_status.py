"""What `/v1/status` says is of one moment, however long it takes to ask all parts."""

import json
from collections.abc import Iterable, Mapping
from typing import cast

from aiohttp import web

from agent.control.api.status import StatusApi
from agent.control.enforcement import Enforcement
from agent.model.status import Part, Problem
from agent.policy.in_force import PoliciesInForce


class Arriving(Part):
    """On its way, until it is there."""

    is_there = False

    def problems(self) -> Iterable[Problem]:
        return () if self.is_there else (Problem("cell", "not there yet"),)

    async def rows(self) -> Mapping[str, object]:
        return {"is_there": self.is_there}


class Slow(Part):
    """While it is asked, the other one arrives."""

    def __init__(self, other: Arriving) -> None:
        self._other = other

    async def rows(self) -> Mapping[str, object]:
        self._other.is_there = True
        return {}


async def shown(*parts: Part) -> Mapping[str, object]:
    nothing = {
        "policies": cast("PoliciesInForce", None), "enforcement": cast("Enforcement", None), "shared": None, "metrics": str,
    }  # fmt: skip
    answer = await StatusApi(parts, **nothing).show(cast("web.Request", None))  # type: ignore[arg-type]
    found: Mapping[str, object] = json.loads(cast("bytes", answer.body))
    return found


async def test_all_is_well_only_where_every_row_says_so() -> None:
    one = Arriving()
    first, second = await shown(one, Slow(one)), await shown(one)
    assert (first["ok"], first["is_there"]) == (False, False)
    assert (second["ok"], second["is_there"]) == (True, True)
