"""Builds every object of the daemon from the configuration, once, in the order in which they need each other."""

import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from agent.config.config import Backend, Config, Verdict
from agent.daemon.envoy import envoy_account
from agent.daemon.service import Service
from agent.errors import Conflict
from agent.identity.keyring import Keyring
from agent.metrics import Metrics
from agent.reconcile.attaching import Attaching, Parts
from agent.reconcile.desired import CellFacts, Snapshot
from agent.reconcile.leaves import LeafFacts, Leaves
from agent.reconcile.loop import Effects, Reconciler
from agent.reconcile.owners import Owners
from agent.reconcile.policies import Policies
from agent.reconcile.tagging import Tagging
from agent.store.database import Database
from agent.store.ledger import Ledger
from agent.store.sqlite import SqliteStore
from agent.store.store import Store
from ca.disk import load_or_create
from dataplane.apply import Kernel
from dataplane.envoy.ads import AdsServer
from dataplane.firewall import choice
from dataplane.netlink.monitor import Monitor
from dataplane.netlink.underlay import clashes, container_mtu


@dataclass(frozen=True, slots=True)
class Agent:
    """What `main` runs."""

    facts: CellFacts
    backend: choice.Backend
    kernel: Kernel
    monitor: Monitor
    ledger: Ledger
    leaves: Leaves
    policies: Policies
    reconciler: Reconciler
    attaching: Attaching
    ads: AdsServer
    service: Service


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def build(config: Config, *, strangers: tuple[int, ...]) -> AsyncIterator[Agent]:
    """Everything, opened; closed at the end. `strangers` are uids that hold names of the agent's lock."""
    async with contextlib.AsyncExitStack() as stack:
        database = Database(config.paths.database)
        stack.callback(database.close)
        store, ledger = SqliteStore(database), Ledger(database)
        backend, kernel, monitor = _kernel(config, stack)
        owners = Owners()
        owners.strike_out_earlier_boots(ledger, now=time.time())
        facts = await _facts(config, store, ledger, kernel)
        leaves, tagging = _leaves(config), Tagging(store, now=time.time)
        policies = Policies(config.policies, last_good=config.paths.last_good, store=store)
        envoy = envoy_account(config)
        ads = AdsServer(config.paths.xds_socket, gid=envoy.pw_gid)
        stack.push_async_callback(ads.stop)
        metrics, leaving = Metrics(), set[str]()
        effects = Effects(kernel=kernel, monitor=monitor, metrics=metrics, ads=ads, now=utc_now, elapsed=time.monotonic)
        reconciler = Reconciler(
            partial(_snapshot, policies=policies, tagging=tagging, ledger=ledger, leaves=leaves, leaving=leaving),
            facts=facts, effects=effects,
        )  # fmt: skip
        store.subscribe(reconciler.kick)
        attaching = Attaching(
            Parts(
                ledger=ledger,
                leaves=leaves,
                owners=owners,
                reconciler=reconciler,
                claim=tagging.claim,
                pins=config.paths.netns,
                tls_port=config.tls.port,
                envoy_uid=envoy.pw_uid,
                leaving=leaving,
            )
        )
        service = Service(
            config=config,
            facts=facts,
            ledger=ledger,
            leaves=leaves,
            policies=policies,
            reconciler=reconciler,
            attaching=attaching,
            tagging=tagging,
            metrics=metrics,
            ads=ads,
            started=utc_now(),
            strangers=strangers,
        )
        yield Agent(facts, backend, kernel, monitor, ledger, leaves, policies, reconciler, attaching, ads, service)


def _kernel(config: Config, stack: contextlib.AsyncExitStack) -> tuple[choice.Backend, Kernel, Monitor]:
    asked = config.firewall.backend
    backend = choice.detect() if asked is Backend.AUTO else choice.Backend(asked.value)
    kernel, monitor = Kernel(choice.firewall(backend)), Monitor()
    stack.callback(kernel.close)
    stack.callback(monitor.close)
    return backend, kernel, monitor


async def _snapshot(*, policies: Policies, tagging: Tagging, ledger: Ledger, leaves: Leaves, leaving: set[str]) -> Snapshot:
    attachments = tuple(held for held in ledger.all() if held.name not in leaving)
    in_force = await policies.in_force()
    tags = await tagging.follow(in_force, attachments)
    policies.forget_all_but({held.app for held in attachments})
    return Snapshot(
        attachments=attachments,
        tags=tags,
        leaves=leaves.all(),
        resolve=await policies.resolver(tags),
        groups=policies.groups(),
        trust_bundle=leaves.bundle,
    )


async def _facts(config: Config, store: Store, ledger: Ledger, kernel: Kernel) -> CellFacts:
    """What the cell is. Raises Conflict where the overlay's addresses are the host's already."""
    found = kernel.submit(lambda: clashes(config.overlay.network)).result()
    if found:
        places = ", ".join(clash.what for clash in found)
        raise Conflict(
            f"the overlay network {config.overlay.network} overlaps what this host uses: {places}",
            hint="choose another overlay.network in agent.yaml, the same on every cell",
        )
    cell = ledger.cell_id(fresh=uuid.uuid4().hex)
    subnet = await store.claim_subnet(cell, network=config.overlay.network, cell_prefix=config.overlay.cell_prefix)
    ledger.adopt_subnet(subnet)
    mtu = config.overlay.mtu or kernel.submit(lambda: container_mtu(config.underlay.interface)).result()
    return CellFacts(
        overlay=config.overlay.network,
        subnet=subnet,
        mtu=mtu,
        pins=config.paths.netns,
        tls_port=config.tls.port,
        egress_allowed=config.egress.default is Verdict.ALLOW,
        host_services=config.host_services,
    )


def _leaves(config: Config) -> Leaves:
    os.makedirs(config.paths.run, mode=0o755, exist_ok=True)
    return Leaves(
        lambda: load_or_create(config.paths.ca, cell=config.cell, trust_domain=config.trust_domain, now=utc_now()),
        keyring=Keyring(config.paths.identity),
        facts=LeafFacts(trust_domain=config.trust_domain, dns_domain=config.dns.domain, lifetime=config.tls.leaf_lifetime),
        now=utc_now,
    )
