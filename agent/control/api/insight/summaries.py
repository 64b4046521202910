"""`/v1/summaries`: what flows on all cells and what they deny, by pairs, as each has summed it up."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from agent.control.api.insight.denied import asked
from agent.control.errors import answer
from agent.insight.cell_summary import CellSummary
from agent.insight.refusals.denied import ends_of
from agent.insight.summaries import Summaries
from agent.model.cell import Cell

MOST = 10_000
"""Pairs of each kind in one answer."""


class SummariesApi:
    """The handler. It only reads."""

    def __init__(self, summaries: Summaries, *, cells: Callable[[], Awaitable[tuple[Cell, ...]]]) -> None:
        self._summaries = summaries
        self._cells = cells

    def routes(self) -> list[web.RouteDef]:
        """One."""
        return [web.get("/v1/summaries", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Of the cells that there are, those that have said something, and what of it is asked for."""
        wanted = asked(dict(request.query))
        found, names = await self._summaries.all(), [each.record.name for each in await self._cells()]
        here = {name: found.summaries[name] for name in names if name in found.summaries}
        flows = [
            {"from": pair.source, "to": pair.to, "protocol": pair.protocol, "port": pair.port, "policy": pair.policy,
             "origin": pair.origin, "count": count, "cell": cell}
            for cell, each in here.items() for pair, count in each.flows if wanted(pair)
        ]  # fmt: skip
        denied = [
            {**ends_of(pair), "count": count, "cell": cell}
            for cell, each in here.items()
            for pair, count in each.denied
            if wanted(pair)
        ]
        silent = [name for name in names if name not in here and name not in found.senseless]
        senseless = [{"cell": name, "why": why} for name, why in found.senseless.items() if name in names]
        shown = {"cells": [_row(*each) for each in here.items()], "silent": silent, "senseless": senseless}
        left_out = max(len(flows) - MOST, 0) + max(len(denied) - MOST, 0)
        return answer({**shown, "left_out": left_out, "flows": flows[:MOST], "denied": denied[:MOST]})


def _row(cell: str, each: CellSummary) -> Mapping[str, object]:
    return {"cell": cell, "at": each.at, "more_flows": each.more_flows, "more_denied": each.more_denied}
