"""The objects that know what was denied."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from agent.cells.tunnel_mode import TunnelMode
from agent.daemon.foundation import Foundation
from agent.daemon.name_parts import NameParts
from agent.insight.denied import Denied
from agent.insight.noted_packets import NotedPackets, Whereabouts
from agent.insight.untaken_tunnels import UntakenTunnels
from agent.metrics import Metrics
from agent.model.names import AppName
from agent.model.policy import Policy, Protocol
from agent.policy.in_force import PoliciesInForce


@dataclass(frozen=True, slots=True)
class InsightParts:
    """See each."""

    denied: Denied
    packets: NotedPackets
    tell_tunnels: Callable[[], Coroutine[None, None, None]]


def make_untaken(base: Foundation, metrics: Metrics) -> UntakenTunnels:
    """First of them, with what was denied: Envoy is asked what it refuses before there is a loop."""
    denied = Denied(metrics=metrics, now=base.clock.now, elapsed=base.clock.elapsed)
    return UntakenTunnels(denied, elapsed=base.clock.elapsed)


def make_insight_parts(
    base: Foundation, untaken: UntakenTunnels, *, policies: PoliciesInForce, names: NameParts, mode: TunnelMode
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
    return InsightParts(untaken.denied, NotedPackets(untaken, where), partial(untaken.run, check, where.app_at))
