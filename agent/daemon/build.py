"""Builds every object of the daemon from the configuration, once, in the order in which they need each other."""

import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from agent.attach.owners import Owners
from agent.attach.transaction import AttachParts, AttachTransactions
from agent.cells.tunnel_health import TunnelHealth
from agent.config.config import BackendChoice, Config, Verdict
from agent.daemon.clock import Clock
from agent.daemon.disk_space import DiskSpace
from agent.daemon.lock import ForeignHolders
from agent.daemon.peering import Peering, peering, underlay_monitor
from agent.daemon.service import Service
from agent.daemon.storing import Storing, storing
from agent.envoy.connection import EnvoyConnection
from agent.envoy.listeners import Listeners
from agent.envoy.liveness import Liveness
from agent.envoy.process import envoy_account, worker_count
from agent.errors import Conflict
from agent.identity.keyring import Keyring
from agent.identity.leaves import LeafFacts, Leaves
from agent.loop.desired import CellFacts
from agent.loop.loop import Effects, Reconciler
from agent.loop.snapshot import SnapshotSources
from agent.metrics import Metrics
from agent.policy.in_force import PoliciesInForce
from agent.policy.tags_in_use import TagsInUse
from agent.store.database import Database
from agent.store.ledger import Ledger
from agent.store.protocols import Store
from ca.disk import load_or_create
from dataplane.apply import Kernel
from dataplane.envoy import admin
from dataplane.envoy.ads import AdsServer
from dataplane.firewall import backends
from dataplane.netlink.monitor import Monitor
from dataplane.netlink.underlay import clashes


@dataclass(frozen=True, slots=True)
class Agent:
    """What `main` runs."""

    facts: CellFacts
    backend: backends.Backend
    kernel: Kernel
    monitor: Monitor
    database: Database
    storage: Storing
    ledger: Ledger
    leaves: Leaves
    policies: PoliciesInForce
    reconciler: Reconciler
    listeners: Listeners
    attaching: AttachTransactions
    ads: AdsServer
    pulse: Liveness
    others: Peering
    tunnels: TunnelHealth
    service: Service


@contextlib.asynccontextmanager
async def build(config: Config, *, strangers: tuple[int, ...], clock: Clock) -> AsyncIterator[Agent]:
    """Everything, opened; closed at the end. `strangers` are uids that hold names of the agent's lock."""
    async with contextlib.AsyncExitStack() as stack:
        database = Database(config.paths.database)
        stack.callback(database.close)
        storage, ledger = storing(config, database, stack), Ledger(database)
        backend, kernel, monitor = _kernel(config, stack)
        store, owners = storage.store, Owners()
        owners.strike_out_earlier_boots(ledger, now=clock.seconds())
        facts, underlay = await _facts(config, store, ledger, kernel, now=clock.seconds()), underlay_monitor(config, kernel)
        await underlay.refresh()
        others = await peering(config, facts, store=store, ledger=ledger, monitor=underlay, elapsed=clock.elapsed)
        earliest, latest = clock.bounds()
        leaves, tagging = _leaves(config, clock), TagsInUse(store, earliest=earliest, latest=latest)
        policies = PoliciesInForce(config.policies, last_good=config.paths.last_good, store=store)
        envoy = envoy_account(config)
        ads = AdsServer(config.paths.xds_socket, gid=envoy.pw_gid)
        stack.push_async_callback(ads.stop)
        metrics, leaving = Metrics(), set[str]()
        effects = Effects(kernel=kernel, monitor=monitor, metrics=metrics, ads=ads, elapsed=clock.elapsed)
        sources = SnapshotSources(
            store=store, ledger=ledger, policies=policies, tags=tagging, leaves=leaves, underlay=underlay, peers=others.peers,
            departures=others.departures, announcement=others.announcement, leaving=leaving,
        )  # fmt: skip
        await sources.refresh_trust()
        reconciler = Reconciler(sources.take, facts=facts, effects=effects)
        store.subscribe(reconciler.kick)
        listeners, pulse = _listeners(config, reconciler, ads), _pulse(config, ads, clock)
        tunnels = TunnelHealth(reconciler.applied, lambda: others.peers.all)
        attaching = AttachTransactions(
            AttachParts(
                ledger=ledger, leaves=leaves, owners=owners, reconciler=reconciler, claim=tagging.claim,
                pins=config.paths.netns, tls_port=config.tls.port, envoy_uid=envoy.pw_uid, leaving=leaving,
                now=clock.seconds, hung=lambda: pulse.problem,
            )
        )  # fmt: skip
        parts = (
            reconciler, attaching, _disk_space(config), database, storage, reconciler.mass_loss, underlay, others.announcement,
            tunnels, reconciler.contested, EnvoyConnection(ads, admin_socket=config.paths.envoy_admin), pulse, listeners,
            policies, tagging, leaves, ForeignHolders(*strangers),
        )  # fmt: skip
        service = Service(
            config=config, facts=facts, storage=storage, leaves=leaves, policies=policies,
            reconciler=reconciler, listeners=listeners, attaching=attaching, metrics=metrics, ads=ads,
            clock=clock, parts=parts, backend=backend.value, others=others, tunnels=tunnels,
        )  # fmt: skip
        yield Agent(
            facts, backend, kernel, monitor, database, storage, ledger, leaves, policies, reconciler, listeners, attaching, ads,
            pulse, others, tunnels, service,
        )  # fmt: skip


def _disk_space(config: Config) -> DiskSpace:
    paths = config.paths
    return DiskSpace(paths.database.parent, paths.ca, paths.last_good, paths.run, paths.identity)


def _kernel(config: Config, stack: contextlib.AsyncExitStack) -> tuple[backends.Backend, Kernel, Monitor]:
    asked = config.firewall.backend
    backend = backends.detect() if asked is BackendChoice.AUTO else backends.Backend(asked.value)
    kernel, monitor = Kernel(backends.firewall(backend)), Monitor()
    stack.callback(kernel.close)
    stack.callback(monitor.close)
    return backend, kernel, monitor


def _listeners(config: Config, reconciler: Reconciler, ads: AdsServer) -> Listeners:
    port, workers = config.tls.port, worker_count(config)
    return Listeners(reconciler.served, ads=ads, port=port, workers=workers, on_repair=reconciler.count_repair)


def _pulse(config: Config, ads: AdsServer, clock: Clock) -> Liveness:
    ask = partial(admin.answer, config.paths.envoy_admin)
    return Liveness(ask, connected=lambda: ads.status().connected, clock=clock.elapsed)


async def _facts(config: Config, store: Store, ledger: Ledger, kernel: Kernel, *, now: float) -> CellFacts:
    """What the cell is. Raises Conflict where the overlay's addresses are the host's already."""
    found = kernel.submit(lambda: clashes(config.overlay.network)).result()
    if found:
        places = ", ".join(clash.what for clash in found)
        raise Conflict(
            f"the overlay network {config.overlay.network} overlaps what this host uses: {places}",
            hint="choose another overlay.network in agent.yaml, the same on every cell",
        )
    cell = ledger.cell_id(fresh=uuid.uuid4().hex)
    overlay = config.overlay
    subnet = await store.claim_subnet(cell, network=overlay.network, cell_prefix=overlay.cell_prefix, now=now)
    ledger.adopt_subnet(subnet)
    return CellFacts(
        overlay=config.overlay.network,
        subnet=subnet,
        pins=config.paths.netns,
        tls_port=config.tls.port,
        egress_allowed=config.egress.default is Verdict.ALLOW,
        host_services=config.host_services,
    )


def _leaves(config: Config, clock: Clock) -> Leaves:
    os.makedirs(config.paths.run, mode=0o755, exist_ok=True)
    return Leaves(
        lambda: load_or_create(config.paths.ca, cell=config.cell, trust_domain=config.trust_domain, now=clock.now()),
        keyring=Keyring(config.paths.identity),
        facts=LeafFacts(trust_domain=config.trust_domain, dns_domain=config.dns.domain, lifetime=config.tls.leaf_lifetime),
        now=clock.now,
        folder=config.paths.ca,
    )
