"""Puts the daemon together: the objects of agent/daemon/parts/parts.py, the tasks that they run, what `status` asks, the API.

A new part has its place in the list of what reports; what it does for as long as the agent runs, among the tasks.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from ipaddress import IPv4Network
from typing import Any

from aiohttp import web

from agent.attach.owners import OwnerWatch
from agent.config.accounts import envoy_account
from agent.config.config import Config
from agent.control.api.status import METRICS
from agent.control.config_in_force import ConfigInForce
from agent.control.metrics_listener import MetricsListener
from agent.daemon import watchdog
from agent.daemon.clock import Clock
from agent.daemon.disk_space import DiskSpace
from agent.daemon.firewall import clear_other_backend
from agent.daemon.live_settings import take
from agent.daemon.lock import ForeignHolders
from agent.daemon.parts.api import api_routes
from agent.daemon.parts.explain import answering_tasks
from agent.daemon.parts.foundation import Foundation, lay_foundation
from agent.daemon.parts.parts import Parts, make_parts
from agent.daemon.saved_rules import SavedRules
from agent.daemon.tasks import TaskFailures
from agent.daemon.this_cell import ThisCell
from agent.daemon.trusted_files import TrustedFiles
from agent.dns.process import has_hop
from agent.envoy.connection import EnvoyConnection
from agent.envoy.leaving_envoys import LeavingEnvoys
from agent.envoy.memory_relief import MemoryRelief
from agent.envoy.process import envoy_obstacle
from agent.insight.history.history import History
from agent.insight.history.on_disk import HistoryArea
from agent.insight.history.seen_changes import SeenChanges
from agent.insight.history.seen_policies import SeenPolicies
from agent.loop import drift
from agent.loop.loop import Reconciler
from agent.model.status import Part, problems_of
from dataplane.envoy.sockets.stuck_connections import end, stuck_connections

Work = tuple[str, Callable[[], Coroutine[Any, Any, None]]]
"""A task by its name; it ends only by being cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What `main` runs: `recover`, then the tasks `from_start`; when `preparations` are done, the rest."""

    subnet: IPv4Network
    recover: Callable[[], None]
    from_start: tuple[Work, ...]
    preparations: tuple[Callable[[], Awaitable[None]], ...]
    routes: list[web.RouteDef]
    tasks: tuple[Work, ...]
    history: History


@contextlib.asynccontextmanager
async def build(
    config: Config,
    *,
    load: Callable[[], Config],
    signals: asyncio.Event,
    foreign_holders: ForeignHolders,
    failures: TaskFailures,
    clock: Clock,
) -> AsyncIterator[Agent]:
    """Everything, opened; closed at the end. `load` reads the configuration again, at each of the `signals`."""
    async with contextlib.AsyncExitStack() as stack:
        base = await lay_foundation(config, clock=clock, stack=stack)
        parts, shared = await make_parts(base, stack), base.storage.shared
        stack.callback(parts.insight.history.end)
        stack.callback(parts.insight.use.save)
        in_force = ConfigInForce(
            base.current, load=load, take=partial(take, base=base, parts=parts), reread=parts.policies.settle_files
        )

        def recover() -> None:
            parts.attaching.recover()
            parts.places.recover()
            parts.leaves.load(parts.attaching.present())
            parts.names.readiness.first_look(parts.attaching.attached())

        listener = MetricsListener(config.metrics)
        reporting = (*_reporting(base, parts), in_force, foreign_holders, failures, listener)
        routes = api_routes(base, parts, in_force, reporting)
        yield Agent(
            subnet=base.facts.subnet,
            recover=recover,
            from_start=(("loop", parts.loop.run), *([] if shared is None else [("store", shared.run)])),
            preparations=(
                partial(_enforced, parts.loop),
                partial(clear_other_backend, base.kernel, base.backend),
                parts.ads.start,
                parts.files.prepare,
                partial(parts.insight.history.begin, f"cellnet {version('cellnet')} started, pid {os.getpid()}"),
            ),
            routes=routes,
            tasks=(
                *_tasks(base, parts, _seen(base, parts, reporting)),
                *answering_tasks(base, parts),
                *_metrics_task(config, listener, routes),
                ("reload", partial(in_force.follow, signals)),
            ),
            history=parts.insight.history,
        )


def _metrics_task(config: Config, listener: MetricsListener, routes: Iterable[web.RouteDef]) -> tuple[Work, ...]:
    """What answers over TCP is what answers at the socket."""
    if config.metrics.listen is None:
        return ()
    handler = next(each.handler for each in routes if each.path == METRICS)
    return (("metrics", partial(listener.run, handler)),)


def _memory_relief(base: Foundation, parts: Parts) -> MemoryRelief:
    find = partial(stuck_connections, envoy=envoy_account(base.config).pw_uid)
    return MemoryRelief(parts.loop.served, heap=parts.pressure.heap, find=find, end=end, on_relief=parts.loop.reports.add_ended)


def _seen(base: Foundation, parts: Parts, reporting: tuple[Part, ...]) -> SeenChanges:
    history, cells = parts.insight.history, base.storage.cells
    made = SeenChanges(
        history,
        cell=base.config.cell,
        cells=cells,
        problems=partial(problems_of, reporting),
        policies=SeenPolicies(history, written=parts.policies.written, in_force=parts.policies.in_force),
    )
    parts.leaves.report_to(partial(history.add, HistoryArea.CERTIFICATES))
    base.storage.changes.subscribe(made.kick)
    return made


async def _enforced(loop: Reconciler) -> None:
    """The kernel must be right before any client is served."""
    problem = (await loop.settle()).problem
    if problem is not None:
        raise problem


def _tasks(base: Foundation, parts: Parts, seen: SeenChanges) -> tuple[Work, ...]:
    """What runs while clients are served."""
    kick = parts.loop.kick

    def changed() -> None:
        kick()
        parts.files.look()
        parts.of_cells.look()
        seen.kick()

    return (
        ("watchdog", watchdog.run),
        ("policies", partial(parts.policies.watch, changed)),
        ("endings", partial(parts.policies.watch_ends, changed)),
        ("drift", partial(drift.run, parts.loop, base.monitor, underlay=base.underlay)),
        ("listeners", parts.listeners.run),
        ("foreign_listeners", parts.foreign_listeners.run),
        ("late_rights", parts.loop.late_rights.run),
        ("readiness", partial(parts.names.readiness.run, kick)),
        ("claims", parts.names.claims.run),
        ("leaves", partial(parts.leaves.run, kick)),
        ("database", partial(base.database.run, kick)),
        ("liveness", parts.liveness.run),
        ("leaving_envoys", LeavingEnvoys(base.config.paths.envoy_admin).run),
        ("resolver", parts.resolver.liveness.run),
        ("upstreams", parts.resolver.upstreams.run),
        *(
            (("asked_names", parts.resolver.asked.run), ("known_names", parts.resolver.asked.run_looks))
            if has_hop(base.config)
            else ()
        ),
        ("endpoints", parts.outside.endpoints.run),
        ("never_outside", partial(parts.outside.never.run, kick)),
        ("pressure", parts.pressure.run),
        ("memory_relief", _memory_relief(base, parts).run),
        ("clashes", base.address_clashes.run),
        ("announcement", parts.announcement.run),
        ("roots", partial(parts.roots.run, parts.loop.applied, taken=parts.loop.envoy.has_taken_secrets)),
        ("tunnels", parts.tunnels.run),
        ("rollout", parts.rollout.run),
        ("firewall", parts.firewall.run),
        ("limits", parts.limits.run),
        *parts.insight.tasks(),
        ("seen_changes", seen.run),
        ("files", parts.files.run),
        ("of_cells", parts.of_cells.run),
        ("published", parts.published.run),
        ("drain", parts.drain.run),
        ("owners", OwnerWatch(parts.attaching.sweep, base.ledger).run),
    )


def _reporting(base: Foundation, parts: Parts) -> tuple[Part, ...]:
    """What `status` walks: rows come in this order."""
    config, loop, paths = base.config, parts.loop, base.config.paths
    cell = ThisCell(config.cell, facts=base.facts, underlay=base.underlay, attaching=parts.attaching, clock=base.clock)
    return (
        cell,
        DiskSpace(paths.database.parent, paths.ca, paths.last_good, paths.run, paths.identity),
        base.database,
        base.storage,
        parts.names.endpoints,
        loop.mass_loss,
        parts.outside.endpoints,
        base.underlay,
        base.address_clashes,
        parts.announcement,
        parts.tunnels,
        parts.rollout,
        parts.policies,
        parts.tags,
        parts.firewall,
        parts.limits,
        loop.contested,
        SavedRules(),
        EnvoyConnection(parts.ads, admin_socket=paths.envoy_admin, obstacle=partial(envoy_obstacle, config)),
        parts.liveness,
        parts.listeners,
        parts.foreign_listeners,
        parts.pressure,
        parts.refused,
        *parts.insight.reporting(),
        parts.ports,
        parts.published,
        loop.late_rights,
        parts.resolver.liveness,
        parts.resolver.upstreams,
        parts.resolver.asked,
        loop.names,
        loop.hop_calls,
        parts.leaves,
        loop.reports,
        parts.attaching,
        parts.drain,
        parts.files,
        parts.names.readiness,
        parts.names.claims,
        parts.holders,
        TrustedFiles(config),
    )
