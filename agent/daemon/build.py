"""Builds every object of the daemon from the configuration, once, in the order in which they need each other.

A new part is made here, and has its place in the list of parts; what it does for as long as the agent runs, among the tasks.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from aiohttp import web

from agent.attach.address_holders import AddressHolders
from agent.attach.owners import OwnerWatch
from agent.attach.reserved_ports import ReservedPorts
from agent.attach.transaction import AttachParts, AttachTransactions
from agent.cells.announcement import Announcement
from agent.cells.departures import Departures
from agent.cells.peers import Peers
from agent.cells.rollout import Rollout, RolloutFacts
from agent.cells.tunnel_health import TunnelHealth
from agent.cells.tunnel_mode import TunnelMode
from agent.config.config import Config, Mtls
from agent.control.api.attachments import AttachmentsApi
from agent.control.api.ca import CaApi
from agent.control.api.cells import CellsApi
from agent.control.api.policies import PoliciesApi
from agent.control.api.rotation import RotationApi
from agent.control.api.status import StatusApi
from agent.control.enforcement import Enforcement
from agent.daemon.clock import Clock
from agent.daemon.config_changes import ConfigChanges
from agent.daemon.disk_space import DiskSpace
from agent.daemon.firewall import FirewallPart, clear_other_backend, passage_of
from agent.daemon.foundation import Foundation, lay_foundation
from agent.daemon.lock import ForeignHolders
from agent.daemon.saved_rules import SavedRules
from agent.daemon.tasks import TaskFailures
from agent.daemon.this_cell import ThisCell
from agent.daemon.trusted_files import TrustedFiles
from agent.daemon.tunnel_looks import TunnelLooks
from agent.envoy.connection import EnvoyConnection
from agent.envoy.foreign_listeners import ForeignListeners
from agent.envoy.listeners import Listeners
from agent.envoy.liveness import Liveness
from agent.envoy.memory_relief import MemoryRelief
from agent.envoy.pressure import Pressure
from agent.envoy.process import envoy_account, envoy_obstacle, worker_count
from agent.envoy.refused_calls import RefusedCalls
from agent.errors import HostRefused, Unavailable
from agent.identity.keyring import Keyring
from agent.identity.leaves import LeafFacts, Leaves
from agent.loop import drift
from agent.loop.desired import envoy_ports
from agent.loop.loop import Effects, Reconciler
from agent.loop.roots_in_force import RootsInForce
from agent.loop.snapshot import SnapshotSources
from agent.metrics import Levels, Metrics
from agent.model.cell import CellRecord, RootsInUse
from agent.model.routes import RouteDomains
from agent.model.status import Part, problems_of
from agent.policy.in_force import PoliciesInForce
from agent.policy.tags_in_use import TagsInUse
from agent.store.last_leaves import ClockBounds
from ca.disk import Authorities, load_or_create
from dataplane.envoy import admin
from dataplane.envoy.access_log_service import AccessLogService
from dataplane.envoy.ads import AdsServer
from dataplane.envoy.foreign_sockets import ForeignSockets
from dataplane.envoy.stuck_connections import end, stuck_connections
from host.durable import make_folder

PATIENCE = 3.0  # seconds: a start in an outage must not wait long for what the other cells need not hear at once

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    metrics: Metrics
    leaves: Leaves
    policies: PoliciesInForce
    tags: TagsInUse
    announcement: Announcement
    roots: RootsInForce
    ads: AdsServer
    loop: Reconciler
    firewall: FirewallPart
    listeners: Listeners
    foreign_listeners: ForeignListeners
    liveness: Liveness
    pressure: Pressure
    refused: RefusedCalls
    tunnels: TunnelHealth
    holders: AddressHolders
    attaching: AttachTransactions
    ports: ReservedPorts
    rollout: Rollout


@contextlib.asynccontextmanager
async def build(
    config: Config, *, foreign_holders: ForeignHolders, failures: TaskFailures, clock: Clock
) -> AsyncIterator[Agent]:
    """Everything, opened; closed at the end."""
    async with contextlib.AsyncExitStack() as stack:
        base = await lay_foundation(config, clock=clock, stack=stack)
        parts, shared = await _parts(base, stack), base.storage.shared

        def recover() -> None:
            parts.attaching.recover()
            parts.leaves.load(parts.attaching.present())

        yield Agent(
            subnet=base.facts.subnet,
            recover=recover,
            from_start=(("loop", parts.loop.run), *([] if shared is None else [("store", shared.run)])),
            preparations=(
                partial(_enforced, parts.loop),
                partial(clear_other_backend, base.kernel, base.backend),
                parts.ads.start,
            ),
            routes=_routes(base, parts, foreign_holders, failures),
            tasks=_tasks(base, parts),
        )


async def _parts(base: Foundation, stack: contextlib.AsyncExitStack) -> _Parts:
    config, clock, storage, facts = base.config, base.clock, base.storage, base.facts
    peers = Peers(storage.cells, name=config.cell, overlay=facts.overlay, subnet=facts.subnet)
    mode = TunnelMode(config.tls.mtls, base.ledger, without_tunnels=lambda: peers.without_tunnels)
    announcement, metrics, leaving = await _announcement(base, mode), Metrics(), set[str]()
    holders = _holders(base, mode)
    leaves, (earliest, latest) = _leaves(config, clock, holders), clock.bounds()
    tags = TagsInUse(storage.tags, earliest=earliest, latest=latest, shared=storage.shared)
    policies = PoliciesInForce(config.policies, last_good=config.paths.last_good, store=storage.policies)
    account = envoy_account(config)
    ports = ReservedPorts(lambda each: envoy_ports(each, facts=facts, tunnels=mode.serves), uid=account.pw_uid)
    ads, pressure, refused = _heard_of_envoy(base, metrics, gid=account.pw_gid)
    stack.push_async_callback(ads.stop)
    roots = RootsInForce(leaves, say=announcement.set_roots, before=announcement.roots)
    sources = SnapshotSources(
        trust=storage.trust, cells=storage.cells, ledger=base.ledger, policies=policies, tags=tags, leaves=leaves,
        underlay=base.underlay, peers=peers, announcement=announcement, roots=roots, leaving=leaving,
        mutual_tls=mode.mutual_tls, taken=ports.taken,
        departures=Departures(storage.cells, owner=peers.owner, elapsed=clock.elapsed),
    )  # fmt: skip
    await sources.refresh_trust()
    effects = Effects(
        kernel=base.kernel, monitor=base.monitor, metrics=metrics, ads=ads, elapsed=clock.elapsed, called=clock.called
    )
    loop = Reconciler(sources.take, facts=facts, effects=effects)
    storage.changes.subscribe(loop.kick)
    liveness = _liveness(base, ads)
    attaching = AttachTransactions(
        AttachParts(
            ledger=base.ledger, leaves=leaves, owners=base.owners, reconciler=loop, claim=tags.claim, facts=facts,
            domains=RouteDomains.of(config.dns), ports=ports, holders=holders, leaving=leaving, now=clock.seconds,
            hung=lambda: liveness.problem,
        )
    )  # fmt: skip
    listeners = _listeners(base, loop, ads)
    known = RolloutFacts(lambda: peers.all, lambda: announcement.announced, clock.elapsed)
    return _Parts(
        metrics=metrics, leaves=leaves, policies=policies, tags=tags, announcement=announcement, roots=roots, ads=ads,
        loop=loop,
        firewall=FirewallPart(
            base.backend, kernel=base.kernel, loop=loop, passage=lambda: passage_of(facts, base.underlay.facts.tunnel),
        ),
        liveness=liveness, tunnels=TunnelHealth(loop.applied, lambda: peers.all), attaching=attaching,
        listeners=listeners, ports=ports, holders=holders,
        rollout=Rollout(
            mode, TunnelLooks(mode, base.ledger, attaching, ports, listeners, loop, base.kernel, facts), known,
            on_change=loop.kick,
        ),
        foreign_listeners=_foreign_listeners(base, loop), pressure=pressure, refused=refused,
    )  # fmt: skip


def _holders(base: Foundation, mode: TunnelMode) -> AddressHolders:
    earliest, latest = base.clock.bounds()
    return AddressHolders(
        base.ledger,
        proving=lambda: mode.serves,
        now=base.clock.now,
        bounds=lambda: ClockBounds(earliest(), latest()),
    )


def _heard_of_envoy(base: Foundation, metrics: Metrics, *, gid: int) -> tuple[AdsServer, Pressure, RefusedCalls]:
    """What it has taken, how it is, and what it has refused."""
    clock, paths = base.clock, base.config.paths
    pressure = Pressure(partial(admin.counters, paths.envoy_admin), connected=lambda: ads.status().connected)
    refused = RefusedCalls(metrics=metrics, elapsed=clock.elapsed, now=clock.now, lost=pressure.lost)
    ads = AdsServer(paths.xds_socket, gid=gid, beside=(AccessLogService(refused.take).handler(),))
    return ads, pressure, refused


def _liveness(base: Foundation, ads: AdsServer) -> Liveness:
    ask = partial(admin.answer, base.config.paths.envoy_admin)
    return Liveness(ask, connected=lambda: ads.status().connected, clock=base.clock.elapsed)


def _listeners(base: Foundation, loop: Reconciler, ads: AdsServer) -> Listeners:
    workers, elapsed = worker_count(base.config), base.clock.elapsed
    return Listeners(loop.served, ads=ads, workers=workers, clock=elapsed, on_repair=loop.reports.add_repair)


def _foreign_listeners(base: Foundation, loop: Reconciler) -> ForeignListeners:
    destroy, elapsed = ForeignSockets(base.config.paths.envoy_admin).destroy, base.clock.elapsed
    return ForeignListeners(loop.served, destroy=destroy, clock=elapsed, on_repair=loop.reports.add_repair)


def _memory_relief(base: Foundation, parts: _Parts) -> MemoryRelief:
    find = partial(stuck_connections, envoy=envoy_account(base.config).pw_uid)
    return MemoryRelief(parts.loop.served, heap=parts.pressure.heap, find=find, end=end, on_relief=parts.loop.reports.add_ended)


async def _announcement(base: Foundation, mode: TunnelMode) -> Announcement:
    """Made to the others already, if it can be. Raises Conflict where this cell's name is another machine's."""
    config, subnet = base.config, base.facts.subnet
    identity = base.ledger.cell_id(fresh="")  # it has had one since it got its subnet

    def record(address: IPv4Address) -> CellRecord:
        return CellRecord(config.cell, identity, subnet, address, version("cellnet"), mode.announced)

    made = Announcement(base.storage.cells, record, cell=config.cell, domains=RouteDomains.of(config.dns))
    known = [each.record for each in await base.storage.cells.cells() if each.record.id == identity]
    made.set_roots(known[0].roots if known else RootsInUse())
    made.update((), underlay=base.underlay.address)
    with contextlib.suppress(Unavailable, HostRefused, TimeoutError):  # its task goes on trying
        async with asyncio.timeout(PATIENCE):
            await made.announce()
    return made


def _leaves(config: Config, clock: Clock, holders: AddressHolders) -> Leaves:
    make_folder(config.paths.run, mode=0o755)
    # where TLS is demanded between cells, a root that no other cell has would show only in refused calls
    alone = config.store is None or config.tls.mtls is Mtls.NONE

    def read() -> Authorities:
        paths, domain = config.paths, config.trust_domain
        return load_or_create(paths.ca, cell=config.cell, trust_domain=domain, now=clock.now(), may_make_root=alone)

    return Leaves(
        read,
        keyring=Keyring(config.paths.identity),
        facts=LeafFacts(config.trust_domain, RouteDomains.of(config.dns), lifetime=config.tls.leaf_lifetime),
        now=clock.now,
        folder=config.paths.ca,
        remember=holders.remember,
    )


async def _enforced(loop: Reconciler) -> None:
    """The kernel must be right before any client is served."""
    problem = (await loop.settle()).problem
    if problem is not None:
        raise problem


def _tasks(base: Foundation, parts: _Parts) -> tuple[Work, ...]:
    """What runs while clients are served."""
    kick = parts.loop.kick
    return (
        ("policies", partial(parts.policies.watch, kick)),
        ("drift", partial(drift.run, parts.loop, base.monitor, underlay=base.underlay)),
        ("listeners", parts.listeners.run),
        ("foreign_listeners", parts.foreign_listeners.run),
        ("late_rights", parts.loop.late_rights.run),
        ("leaves", partial(parts.leaves.run, kick)),
        ("database", partial(base.database.run, kick)),
        ("liveness", parts.liveness.run),
        ("pressure", parts.pressure.run),
        ("memory_relief", _memory_relief(base, parts).run),
        ("clashes", base.overlay_clashes.run),
        ("announcement", parts.announcement.run),
        ("roots", partial(parts.roots.run, parts.loop.applied, taken=parts.loop.envoy.has_taken_secrets)),
        ("tunnels", parts.tunnels.run),
        ("rollout", parts.rollout.run),
        ("firewall", parts.firewall.run),
        ("owners", OwnerWatch(parts.attaching.sweep, base.ledger).run),
    )


def _reporting(base: Foundation, parts: _Parts) -> tuple[Part, ...]:
    """What `status` walks: rows come in this order."""
    config, loop, paths = base.config, parts.loop, base.config.paths
    cell = ThisCell(config.cell, facts=base.facts, underlay=base.underlay, attaching=parts.attaching, clock=base.clock)
    return (
        cell,
        DiskSpace(paths.database.parent, paths.ca, paths.last_good, paths.run, paths.identity),
        base.database,
        base.storage,
        loop.mass_loss,
        base.underlay,
        base.overlay_clashes,
        parts.announcement,
        parts.tunnels,
        parts.rollout,
        parts.policies,
        parts.tags,
        parts.firewall,
        loop.contested,
        SavedRules(),
        EnvoyConnection(parts.ads, admin_socket=paths.envoy_admin, obstacle=partial(envoy_obstacle, config)),
        parts.liveness,
        parts.listeners,
        parts.foreign_listeners,
        parts.pressure,
        parts.refused,
        parts.ports,
        loop.late_rights,
        parts.leaves,
        loop.reports,
        parts.attaching,
        parts.holders,
        ConfigChanges(config.file),
        TrustedFiles(config),
    )


def _routes(base: Foundation, parts: _Parts, *more: Part) -> list[web.RouteDef]:
    """The API, a class for each subject."""
    config, clock, storage, enforcement = base.config, base.clock, base.storage, Enforcement(parts.loop)
    attachments = AttachmentsApi(
        parts.attaching,
        leaves=parts.leaves,
        listeners=parts.listeners,
        facts=base.facts,
        metrics=parts.metrics,
        now=clock.now,
    )
    rotation = RotationApi(
        config.cell, parts.leaves, own=lambda: parts.announcement.roots, store=storage.trust, cells=storage.cells,
        shared=storage.shared, elapsed=clock.elapsed, now=clock.now,
    )  # fmt: skip
    reporting = (*_reporting(base, parts), attachments, rotation, *more)
    apis = (
        attachments,
        PoliciesApi(parts.policies, enforcement=enforcement),
        CellsApi(config.cell, store=storage.cells, enforcement=enforcement, now=clock.seconds),
        rotation,
        CaApi(parts.leaves, folder=config.paths.ca, store=storage.trust, enforcement=enforcement, now=clock.now),
        StatusApi(
            reporting,
            policies=parts.policies,
            shared=storage.shared,
            enforcement=enforcement,
            metrics=lambda: parts.metrics.text(_levels(parts, reporting), now=clock.now()),
        ),
    )
    return [route for each in apis for route in each.routes()]


def _levels(parts: _Parts, reporting: tuple[Part, ...]) -> Levels:
    envoy, ends, leaf_ends = parts.ads.status(), parts.leaves.expiries(), parts.leaves.next_expiry()
    return Levels(
        attachments=len(parts.attaching.attached()),
        rules=parts.loop.rule_count,
        envoy_connected=envoy.connected,
        envoy_refused=len(envoy.refused),
        envoy_pushed=envoy.pushed,
        problems=len(problems_of(reporting)),
        lost_refusals=parts.pressure.lost(),
        expiries={"root": ends.root_not_after, "cell": ends.cell_not_after} | ({"leaf": leaf_ends} if leaf_ends else {}),
    )
