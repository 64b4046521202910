"""The objects behind Envoy: what feeds it, what hears of it, and what looks after it."""

import contextlib
from collections.abc import Sequence
from functools import partial

from agent.daemon.parts.foundation import Foundation
from agent.daemon.parts.insight import make_untaken
from agent.envoy.foreign_listeners import ForeignListeners
from agent.envoy.listeners import Listeners
from agent.envoy.liveness import Liveness
from agent.envoy.pressure import COUNTERS, Pressure
from agent.envoy.process import worker_count
from agent.envoy.refused_calls import RefusedCalls
from agent.insight.refusals.refused_calls import tell
from agent.insight.refusals.untaken_tunnels import UntakenTunnels
from agent.loop.loop import Reconciler
from agent.metrics import Metrics
from dataplane.envoy.access_log_service import AccessLogService
from dataplane.envoy.ads.ads import AdsServer
from dataplane.envoy.process import admin
from dataplane.envoy.refusal import Refusal
from dataplane.envoy.sockets.foreign import ForeignSockets


def heard_of_envoy(
    base: Foundation, metrics: Metrics, stack: contextlib.AsyncExitStack, *, gid: int
) -> tuple[AdsServer, Pressure, RefusedCalls, UntakenTunnels]:
    """What it has taken, how it is, what it has refused, and what was denied by whatever."""
    clock, paths, untaken = base.clock, base.config.paths, make_untaken(base, metrics)
    pressure = Pressure(partial(admin.counters, paths.envoy_admin, COUNTERS), connected=lambda: ads.status().connected)

    def also(refusals: Sequence[Refusal]) -> None:
        tell(refusals, untaken.denied, untaken.tried)
        untaken.take(refusals)

    refused = RefusedCalls(metrics=metrics, elapsed=clock.elapsed, now=clock.now, lost=pressure.lost, also=also)
    ads = AdsServer(paths.xds_socket, gid=gid, beside=(AccessLogService(refused.take).handler(),))
    stack.push_async_callback(ads.stop)
    return ads, pressure, refused, untaken


def make_liveness(base: Foundation, ads: AdsServer) -> Liveness:
    """Asks its admin socket."""
    ask = partial(admin.answer, base.config.paths.envoy_admin)
    return Liveness(ask, connected=lambda: ads.status().connected, clock=base.clock.elapsed)


def make_listeners(base: Foundation, loop: Reconciler, ads: AdsServer) -> Listeners:
    """Those that it should have open."""
    workers, elapsed = worker_count(base.config), base.clock.elapsed
    return Listeners(loop.served, ads=ads, workers=workers, clock=elapsed, on_repair=loop.reports.add_repair)


def make_foreign_listeners(base: Foundation, loop: Reconciler) -> ForeignListeners:
    """Sockets beside those."""
    destroy, elapsed = ForeignSockets(base.config.paths.envoy_admin).destroy, base.clock.elapsed
    return ForeignListeners(loop.served, destroy=destroy, clock=elapsed, on_repair=loop.reports.add_repair)
