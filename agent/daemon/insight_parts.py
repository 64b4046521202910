"""The objects that know what was denied."""

from dataclasses import dataclass

from agent.cells.tunnel_mode import TunnelMode
from agent.daemon.foundation import Foundation
from agent.daemon.name_parts import NameParts
from agent.insight.denied import Denied
from agent.insight.noted_packets import NotedPackets, Whereabouts
from agent.metrics import Metrics
from agent.model.names import AppName
from agent.model.policy import Policy, Protocol
from agent.policy.in_force import PoliciesInForce


@dataclass(frozen=True, slots=True)
class InsightParts:
    """See each."""

    denied: Denied
    packets: NotedPackets


def make_denied(base: Foundation, metrics: Metrics) -> Denied:
    """First of them: Envoy is asked what it refuses before there is a loop."""
    return Denied(metrics=metrics, now=base.clock.now, elapsed=base.clock.elapsed)


def make_insight_parts(
    base: Foundation, denied: Denied, *, policies: PoliciesInForce, names: NameParts, mode: TunnelMode
) -> InsightParts:
    """What the others of them need is there."""

    async def check(source: AppName, to: AppName, protocol: Protocol, port: int) -> Policy | None:
        return await policies.check(source, to=to, protocol=protocol, port=port)

    where = Whereabouts(
        overlay=base.facts.overlay,
        app_at=names.endpoints.app_at,
        tags=base.storage.tags.tags,
        check=check,
        is_strict=lambda: not mode.mutual_tls().plain,
    )
    return InsightParts(denied, NotedPackets(denied, where))
