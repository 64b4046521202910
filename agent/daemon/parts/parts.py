"""Makes every object of the daemon from the configuration, once, in the order in which they need each other.

What runs them is agent/daemon/build.py, what asks them agent/daemon/parts/api.py.
"""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from ipaddress import IPv4Address

from agent.attach.address_holders import AddressHolders
from agent.attach.container_files import ContainerFiles, ContainerPaths
from agent.attach.drain import Drain
from agent.attach.environments import Environments
from agent.attach.published_ports import HostPort, PublishedPorts
from agent.attach.reserved_places import ReservedPlaces
from agent.attach.reserved_ports import ReservedPorts
from agent.attach.transaction import AttachParts, AttachTransactions
from agent.cells.announcement import Announcement
from agent.cells.departures import Departures
from agent.cells.peers import Peers
from agent.cells.rollout import Rollout, RolloutFacts
from agent.cells.tunnel_health import TunnelHealth
from agent.cells.tunnel_mode import TunnelMode
from agent.config.accounts import envoy_account
from agent.config.config import Config, Mtls
from agent.daemon.container_limits import ContainerLimits
from agent.daemon.firewall import FirewallPart, passage_of
from agent.daemon.parts.envoy import heard_of_envoy, make_foreign_listeners, make_listeners, make_liveness
from agent.daemon.parts.foundation import Foundation
from agent.daemon.parts.insight import InsightParts, make_insight_parts
from agent.daemon.parts.names import NameParts, make_name_parts
from agent.daemon.parts.outside import OutsideParts, make_outside_parts
from agent.daemon.parts.resolver import ResolverParts, make_resolver_parts
from agent.daemon.tunnel_looks import TunnelLooks
from agent.envoy.foreign_listeners import ForeignListeners
from agent.envoy.listeners import Listeners
from agent.envoy.liveness import Liveness
from agent.envoy.pressure import Pressure
from agent.envoy.refused_calls import RefusedCalls
from agent.errors import HostRefused, Unavailable
from agent.identity.keyring import Keyring
from agent.identity.leaves import LeafFacts, Leaves
from agent.identity.names import Naming, app_name
from agent.loop.desired import envoy_ports
from agent.loop.loop import Effects, Reconciler
from agent.loop.roots_in_force import RootsInForce
from agent.loop.snapshot import SnapshotSources
from agent.metrics import Metrics
from agent.model.cell import CellRecord, RootsInUse
from agent.model.names import AppName
from agent.model.outside import Inside
from agent.model.resolv_conf import resolv_conf
from agent.model.routes import RouteDomains
from agent.policy.endings import Endings
from agent.policy.in_force import PoliciesInForce
from agent.policy.known_apps import KnownApps
from agent.policy.of_cells import PoliciesOfCells
from agent.policy.tags_in_use import TagsInUse
from agent.store.last_leaves import ClockBounds
from ca.disk import Authorities, load_or_create
from dataplane.dns.hosts_files import HostsFolder
from dataplane.envoy.ads.ads import AdsServer
from dataplane.flows.open_connections import open_connections
from host.durable import make_folder

PATIENCE = 3.0  # seconds: a start in an outage must not wait long for what the other cells need not hear at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All objects that the agent is made of, but for the API's."""

    metrics: Metrics
    leaves: Leaves
    policies: PoliciesInForce
    of_cells: PoliciesOfCells
    known: KnownApps
    tags: TagsInUse
    announcement: Announcement
    roots: RootsInForce
    ads: AdsServer
    loop: Reconciler
    firewall: FirewallPart
    limits: ContainerLimits
    listeners: Listeners
    foreign_listeners: ForeignListeners
    liveness: Liveness
    pressure: Pressure
    refused: RefusedCalls
    insight: InsightParts
    tunnels: TunnelHealth
    holders: AddressHolders
    files: ContainerFiles
    attaching: AttachTransactions
    drain: Drain
    places: ReservedPlaces
    ports: ReservedPorts
    published: PublishedPorts
    rollout: Rollout
    names: NameParts
    resolver: ResolverParts
    outside: OutsideParts


async def make_parts(base: Foundation, stack: contextlib.AsyncExitStack) -> Parts:
    """In the order in which they need each other. What has to be closed is closed with `stack`."""
    config, clock, storage, facts = base.config, base.clock, base.storage, base.facts
    peers = Peers(storage.cells, name=config.cell, overlay=facts.overlay, subnet=facts.subnet)
    mode = TunnelMode(config.tls.mtls, base.ledger, without_tunnels=lambda: peers.without_tunnels)
    announcement, metrics, leaving = await _announcement(base, mode), Metrics(), set[str]()
    holders, outside = _holders(base, mode), await make_outside_parts(base.current, elapsed=clock.elapsed)
    names, account = make_name_parts(base, stack), envoy_account(config)
    leaves, tags, policies = _leaves(base, holders, names.naming), _tags(base), _policies(base)
    ports = ReservedPorts(lambda each: envoy_ports(each, facts=facts, tunnels=mode.serves), uid=account.pw_uid)
    ads, pressure, refused, untaken = heard_of_envoy(base, metrics, stack, gid=account.pw_gid)
    roots = RootsInForce(leaves, say=announcement.set_roots, before=announcement.roots)
    sources = SnapshotSources(
        trust=storage.trust, cells=storage.cells, ledger=base.ledger, policies=policies, tags=tags, leaves=leaves,
        underlay=base.underlay, peers=peers, announcement=announcement, roots=roots, leaving=leaving,
        mutual_tls=mode.mutual_tls, taken=ports.taken, is_drained=lambda each: drain.is_leaving(each),
        readiness=names.readiness, endpoint_names=names.endpoints, follow_claims=names.claims.follow,
        never_outside=outside.never,
        departures=Departures(storage.cells, owner=peers.owner, cells=lambda: peers.all, elapsed=clock.elapsed),
    )  # fmt: skip
    await sources.refresh_trust()
    loop = _loop(base, sources, metrics, ads)
    known = KnownApps(storage.tags, storage.routes, now=clock.seconds)
    of_cells = _of_cells(base, policies)
    files = _files(base, leaves, of_cells, known, leaving)
    liveness, published = make_liveness(base, ads), _published(base)
    attaching = AttachTransactions(
        AttachParts(
            ledger=base.ledger, leaves=leaves, owners=base.owners, reconciler=loop, claim=tags.claim, facts=facts,
            routes=names.asked, indexes=storage.indexes, ports=ports, published=published, holders=holders, files=files,
            leaving=leaving, now=clock.seconds, hung=lambda: liveness.problem, closed=lambda: drain.refusal(),
        )
    )  # fmt: skip
    drain, listeners = _drain(base, loop, attaching, names, announcement), make_listeners(base, loop, ads)
    rollout_facts = RolloutFacts(lambda: peers.all, lambda: announcement.announced, clock.elapsed)
    return Parts(
        metrics=metrics, leaves=leaves, policies=policies, known=known, tags=tags, announcement=announcement, roots=roots,
        ads=ads, loop=loop, of_cells=of_cells,
        firewall=FirewallPart(base.backend, kernel=base.kernel, loop=loop, passage=lambda: passage_of(base.current.config)),
        liveness=liveness, tunnels=TunnelHealth(loop.applied, lambda: peers.all), attaching=attaching, drain=drain,
        places=ReservedPlaces(base.ledger, holders, storage.indexes, names.asked, files, attaching.turn_of),
        listeners=listeners, ports=ports, holders=holders, files=files, limits=ContainerLimits(base.kernel, loop=loop),
        rollout=Rollout(
            mode, TunnelLooks(mode, base.ledger, attaching, ports, listeners, loop, base.kernel, facts), rollout_facts,
            on_change=loop.kick,
        ),
        foreign_listeners=make_foreign_listeners(base, loop), pressure=pressure, refused=refused, names=names,
        insight=make_insight_parts(base, untaken, policies=policies, names=names, mode=mode, loop=loop),
        resolver=make_resolver_parts(base, loop), outside=outside, published=published,
    )  # fmt: skip


def _loop(base: Foundation, sources: SnapshotSources, metrics: Metrics, ads: AdsServer) -> Reconciler:
    clock = base.clock
    effects = Effects(
        kernel=base.kernel,
        monitor=base.monitor,
        metrics=metrics,
        ads=ads,
        names=HostsFolder(base.config.paths.names),
        elapsed=clock.elapsed,
        called=clock.called,
        hop_wanted=base.config.paths.hop_wanted,
    )
    made = Reconciler(sources.take, facts=base.facts, effects=effects)
    base.storage.changes.subscribe(made.kick)
    return made


def _files(base: Foundation, leaves: Leaves, of_cells: PoliciesOfCells, known: KnownApps, leaving: set[str]) -> ContainerFiles:
    config = base.config
    domain, paths = config.dns.domain, config.paths
    environments = Environments(
        leaves.keyring,
        policies=of_cells.everywhere,
        known=known,
        prefixes=config.service_env_prefixes,
        name_of=partial(app_name, domain=domain),
    )
    made = ContainerFiles(
        base.ledger,
        environments,
        folders=ContainerPaths(paths.environments, paths.resolv_confs),
        resolv_conf=partial(resolv_conf, nameserver=config.dns.address, domain=domain),
        leaving=leaving,
    )
    base.storage.changes.subscribe(made.look)
    return made


def _drain(
    base: Foundation, loop: Reconciler, attaching: AttachTransactions, names: NameParts, announcement: Announcement
) -> Drain:
    async def count(addresses: Collection[IPv4Address]) -> Mapping[IPv4Address, int]:
        state, own = loop.applied(), base.facts.own_ports
        here = [] if state is None else [state.workloads[each] for each in addresses if each in state.workloads]
        found = dict(await asyncio.to_thread(open_connections, here, own_ports=own))
        idle = frozenset(address for address, number in found.items() if not number)
        datagrams = await asyncio.wrap_future(base.kernel.datagram_flows(idle, resolver=base.config.dns.address))
        return found | datagrams

    return Drain(
        base.ledger, attaching, count=count, withhold=names.readiness.withhold, announce=announcement.set_drained,
        now=base.clock.seconds,
    )  # fmt: skip


def _published(base: Foundation) -> PublishedPorts:
    """Of the host's ports, what containers reach there and where tunnels end stay what they are."""
    return PublishedPorts(base.ledger.all, facts=base.facts, reserved=reserved_ports(base.config))


def reserved_ports(config: Config) -> dict[HostPort, str]:
    """Ports of the host that are not published, with the reason."""
    reserved = {HostPort(each.protocol, each.port): "containers reach the host there" for each in config.host_services}
    reserved[HostPort("udp", config.overlay.port)] = "the tunnels between cells end there"
    return reserved


def _policies(base: Foundation) -> PoliciesInForce:
    config, store = base.config, base.storage.policies
    endings = Endings(config.paths.latest_time, now=base.clock.seconds)
    return PoliciesInForce(
        config.policies, last_good=config.paths.last_good, store=store, endings=endings, inside=Inside.of(config)
    )


def _of_cells(base: Foundation, policies: PoliciesInForce) -> PoliciesOfCells:
    config, ledger = base.config, base.ledger

    def is_here(app: AppName) -> bool:
        return any(each.app == app for each in ledger.all())

    return PoliciesOfCells(policies, base.storage.cells, cell=config.cell, is_here=is_here, inside=Inside.of(config))


def _tags(base: Foundation) -> TagsInUse:
    (earliest, latest), shared, declared = base.clock.bounds(), base.storage.shared, base.declared.all
    return TagsInUse(base.storage.tags, earliest=earliest, latest=latest, shared=shared, declared=declared)


def _holders(base: Foundation, mode: TunnelMode) -> AddressHolders:
    earliest, latest = base.clock.bounds()
    return AddressHolders(
        base.ledger,
        proving=lambda: mode.serves,
        now=base.clock.now,
        bounds=lambda: ClockBounds(earliest(), latest()),
    )


async def _announcement(base: Foundation, mode: TunnelMode) -> Announcement:
    """Made to the others already, if it can be. Raises Conflict where this cell's name is another machine's."""
    config, subnet = base.config, base.facts.subnet
    identity = base.ledger.cell_id(fresh="")  # it has had one since it got its subnet
    running = version("cellnet")  # from the disk

    def record(address: IPv4Address) -> CellRecord:
        return CellRecord(config.cell, identity, subnet, address, running, mode.announced)

    made = Announcement(base.storage.cells, record, cell=config.cell, domains=RouteDomains.of(config.dns))
    known = [each.record for each in await base.storage.cells.cells() if each.record.id == identity]
    made.set_drained(base.ledger.drain_order().cell is not None)
    made.set_roots(known[0].roots if known else RootsInUse())
    made.update((), ready=(), underlay=base.underlay.address)
    with contextlib.suppress(Unavailable, HostRefused, TimeoutError):  # its task goes on trying
        async with asyncio.timeout(PATIENCE):
            await made.announce()
    return made


def _leaves(base: Foundation, holders: AddressHolders, naming: Naming) -> Leaves:
    config, clock = base.config, base.clock
    make_folder(config.paths.run, mode=0o755)
    # where TLS is demanded between cells, a root that no other cell has would show only in refused calls
    alone = config.store is None or config.tls.mtls is Mtls.NONE

    def read() -> Authorities:
        paths, domain = config.paths, config.trust_domain
        return load_or_create(paths.ca, cell=config.cell, trust_domain=domain, now=clock.now(), may_make_root=alone)

    return Leaves(
        read,
        keyring=Keyring(config.paths.identity),
        facts=LeafFacts(config.trust_domain, naming, lifetime=config.tls.leaf_lifetime),
        now=clock.now,
        folder=config.paths.ca,
        needed=bool(base.ledger.all()),
        remember=holders.remember,
    )
