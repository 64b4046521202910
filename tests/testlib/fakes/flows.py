"""Flows that are there by word, for the API of a cell in memory."""

from collections.abc import Iterable
from datetime import datetime

from agent.insight.flows.followed import FollowedFlows
from agent.insight.flows.live_flow import LiveFlow
from agent.insight.flows.looks import FlowLook, FlowLooks
from agent.insight.refusals.denied import Pair, Tally
from agent.insight.refusals.later_policies import LaterPolicies

FLOW = LiveFlow(
    "5d2a8c01", "acme/shop/web", "acme/shop/api", "10.255.1.2", 40000, "10.255.1.3", "tcp", 8080, "open",
    "web-to-api", "/etc/cellnet/policies.d/shop.yaml:3",
)  # fmt: skip


class FakeFlowLooks(FlowLooks):
    """Sees one flow."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    async def look(self, *, new: bool = False) -> FlowLook:
        return FlowLook(self._at, (FLOW,), whole=True, counts_octets=False, keeps_time=False)


class FakeFollowedFlows(FollowedFlows):
    """Hears of none."""

    def __init__(self) -> None:
        pass

    async def ready(self) -> str:
        return ""


class FakeLaterPolicies(LaterPolicies):
    """No policy has come since."""

    def __init__(self) -> None:
        pass

    async def allowed(self, denied: Iterable[tuple[Pair, Tally]]) -> frozenset[Pair]:
        del denied
        return frozenset()
