"""What all other objects of the daemon stand on: the database, the kernel, the store, and what this cell is in the overlay."""

import asyncio
import contextlib
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from agent.attach.owners import Owners
from agent.cells.address_clashes import AddressClashes
from agent.cells.underlay import UnderlayMonitor
from agent.config.config import Config, Verdict
from agent.config.current import CurrentConfig
from agent.daemon import host_record
from agent.daemon.clock import Clock
from agent.daemon.firewall import chosen_backend
from agent.daemon.storage import Storage, open_storage
from agent.dns.resolver import resolver_of
from agent.loop.desired import CellFacts
from agent.store.database import Database
from agent.store.declared_apps import DeclaredApps
from agent.store.ledger import Ledger
from dataplane.envoy.sockets.foreign import envoy_inodes
from dataplane.firewall.backends import backends
from dataplane.kernel import Kernel
from dataplane.netlink.monitor import Monitor
from dataplane.netlink.underlay import clashes, find_underlay
from dataplane.sets.known_names import KnownNames
from dataplane.sets.known_names_file import KnownNamesFile
from host.sysctl import has_ipv6
from host.trust import require_trusted

# New streams must come to enter tunnels with the newest certificates, long before old ones end
LONGEST_TUNNEL = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Foundation:
    """Opened, and closed by the stack that it was made with."""

    config: Config
    current: CurrentConfig
    clock: Clock
    database: Database
    ledger: Ledger
    owners: Owners
    storage: Storage
    declared: DeclaredApps
    backend: backends.Backend
    kernel: Kernel
    monitor: Monitor
    underlay: UnderlayMonitor
    address_clashes: AddressClashes
    facts: CellFacts
    names_file: KnownNamesFile


async def lay_foundation(config: Config, *, clock: Clock, stack: contextlib.AsyncExitStack) -> Foundation:
    """Raises Conflict where the overlay's addresses are the host's already, HostRefused and Unavailable."""
    require_trusted(config.paths.database)
    host_record.keep(config.paths.host_before)
    database = Database(config.paths.database)
    stack.callback(database.close)
    storage, ledger = open_storage(config, database, stack), Ledger(database)
    backend = chosen_backend(config)
    envoy = partial(envoy_inodes, config.paths.envoy_admin)
    names_file = KnownNamesFile(config.paths.known_names)
    kernel = Kernel(backends.firewall(backend), envoy=envoy, known_names=_known_names(names_file))
    monitor = Monitor()
    stack.callback(names_file.close)
    stack.callback(kernel.close)
    stack.callback(monitor.close)
    owners, underlay_monitor = Owners(), follow_underlay(config, kernel)
    owners.strike_out_earlier_boots(ledger, now=clock.seconds())
    address_clashes = await _look_for_clashes(config, ledger, kernel)
    facts = await _facts(config, storage, ledger, now=clock.seconds())
    facts = replace(facts, ipv6=has_ipv6(), mptcp=backends.can_strip_mptcp(backend))
    await underlay_monitor.refresh()
    return Foundation(
        config, CurrentConfig(config), clock,
        database, ledger, owners, storage, DeclaredApps(database), backend, kernel, monitor, underlay_monitor,
        address_clashes, facts, names_file,
    )  # fmt: skip


def follow_underlay(config: Config, kernel: Kernel) -> UnderlayMonitor:
    """Reads the underlay in the kernel's thread."""
    read = partial(find_underlay, config.underlay.address, config.underlay.interface)
    return UnderlayMonitor(
        lambda: asyncio.wrap_future(kernel.submit(read)), overlay=config.overlay, shared=config.store is not None
    )


async def _look_for_clashes(config: Config, ledger: Ledger, kernel: Kernel) -> AddressClashes:
    network, resolver = config.overlay.network, config.dns.address
    read = partial(clashes, network, resolver)
    made = AddressClashes(lambda: asyncio.wrap_future(kernel.submit(read)), overlay=network, resolver=resolver)
    await made.look()
    if not ledger.all():  # with containers it starts, whatever other programs have done to the host meanwhile
        made.refuse()
    return made


async def _facts(config: Config, storage: Storage, ledger: Ledger, *, now: float) -> CellFacts:
    cell, overlay = ledger.cell_id(fresh=uuid.uuid4().hex), config.overlay
    subnet = await storage.cells.claim_subnet(cell, network=overlay.network, cell_prefix=overlay.cell_prefix, now=now)
    ledger.adopt_subnet(subnet)
    facts = CellFacts(
        overlay=config.overlay.network,
        subnet=subnet,
        pins=config.paths.netns,
        tls_port=config.tls.port,
        egress_allowed=config.egress.default is Verdict.ALLOW,
        host_services=(),
        trust_domain=config.trust_domain,
        resolver=resolver_of(config),
        longest_tunnel=0,
    )
    return with_live_settings(facts, config)


def with_live_settings(facts: CellFacts, config: Config) -> CellFacts:
    """What a reload changes of them."""
    return replace(
        facts,
        ingress_allowed=config.ingress.default is Verdict.ALLOW,
        host_services=config.host_services,
        longest_tunnel=round(min(LONGEST_TUNNEL, config.tls.leaf_lifetime / 4).total_seconds()),
    )


def _known_names(file: KnownNamesFile) -> KnownNames:
    """What the last agent knew of names outside, by which flows may live that the first turn judges."""
    made = KnownNames(write=file.add)
    made.recall(file.read())
    file.begin(made.all())
    return made
