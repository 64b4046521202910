"""Summaries of cells that are there by word, for the API of a cell in memory."""

from datetime import datetime

from agent.insight.cell_summary import CellSummary, FlowPair
from agent.insight.refusals.denied import Pair, Reason
from agent.insight.summaries import AllSummaries, Summaries

FLOWS = FlowPair("acme/shop/web", "acme/shop/api", "tcp", 8080, "web-to-api", "/etc/cellnet/policies.d/shop.yaml:3")
DENIED = Pair("acme/shop/web", "acme/shop/db", "tcp", 5432, Reason.POLICY)


class FakeSummaries(Summaries):
    """Of the cell `one`; `two` has said nothing."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    async def all(self) -> AllSummaries:
        return AllSummaries({"one": CellSummary(self._at, ((FLOWS, 12),), ((DENIED, 3),))}, {})
