"""kill -9 between any two effects of an apply, on a real kernel: nothing is let through there, and the next one arrives."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane.compile import compile_tables
from dataplane.detachment import clear_namespace
from dataplane.firewall.backends.backends import Backend
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.firewall.outside_matches import FEW
from dataplane.firewall.rights import container_chain
from dataplane.netlink.links import address_of
from dataplane.state import NO_LIMITS, Allow, HostService, HostState, Limits, MutualTls, OutsideRight, Workload
from dataplane.tables import ChainKey, Tables, host_interface, host_mac, is_of_links
from tests.testlib.crashes.fork_server import ApplyState, ForkServer, KillableProcess, fork_server
from tests.testlib.envoy import ENVOY_ID
from tests.testlib.hosts import FIRST, Host, allow, make_host
from tests.testlib.netns import Netns
from tests.testlib.reachability import Call, Callers, callers, permitted

SEED = 157
STEPS = 20
pytestmark = pytest.mark.timeout(300)
NETWORKS = tuple(IPv4Network((0xC6120000 + 2 * number, 32)) for number in range(FEW + 1))
RIGHTS = (
    *(allow(tag, ports) for tag in (1, 2, 3) for ports in ("8080", "9090", "8000-9999")),
    allow(1, "53", "udp"),
    Allow(0, "tcp", 8080, 8080, group="org"),
)
OUT = (frozenset[OutsideRight](), frozenset({OutsideRight("tcp", 443, 443, NETWORKS)}))
LIMITS = (NO_LIMITS, Limits(8_000_000), Limits(90_000_000, 3, 9))


@dataclass
class Scene:
    """A host on which one process after the other works, and what its containers reach meanwhile."""

    host: Host
    backend: Backend
    fork_server: ForkServer
    callers: Callers
    state: HostState | None = None  # that the last one has made true; None: a fresh host

    def dies(self, state: HostState, *, before: int) -> bool:
        """Whether one that is to make a state true gets as far as its effect of that number, where it is killed."""
        with self._born(state) as one:
            one.go(killed_before=before, with_tools=True)
            if one.result() is not None:
                return False
            print(f"after {len(one.effects.seen)} effects killed before {one.effects.stopped_before}")
        self._assert_between(self.state, state)
        return True

    def arrives(self, state: HostState) -> None:
        """One that is not killed makes a state true, wherever the last one has died; planned again, there is nothing to do."""
        with self._born(state) as one:
            one.go(killed_before=None, with_tools=True)
            assert one.result() == ()
        self.host.state = self.state = state
        assert not self.host.left_to_do(), str(self.host.left_to_do())
        self._assert_between(state)

    def back_to(self, state: HostState) -> None:
        """Make a state true again."""
        self.host.become(state)
        self.state = state

    def _born(self, state: HostState) -> AbstractContextManager[KillableProcess]:
        return closing(self.fork_server.fork(ApplyState(self.host.netns.path, self.backend, state)))

    def inside(self, workload: Workload) -> str:
        """What a container's namespace is like, in other words than ours and without what is its own."""
        script = "ip rule; ip -4 route show table all; ip -4 neigh show nud permanent; sysctl net.ipv4 2>&1 | grep fwmark"
        told = self.host.containers[int(workload.address) - int(FIRST)].run("sh", "-c", script)
        return told.replace(str(workload.address), "ADDRESS").replace(host_mac(workload.address), "GATEWAY")

    def _assert_between(self, *states: HostState | None) -> None:
        """Where one has died, or one has arrived: as these states say, one way or the other."""
        tables = [Tables() if state is None else compile_tables(state) for state in states]
        found = self.host.read(tables[-1])
        for table in {key for each in tables for key in each.jumps}:
            assert _of(table, found) in [_of(table, each) for each in tables], f"{table.table} is half written"
        up = frozenset(address for name, yes in found.links_up.items() if yes and (address := address_of(name)))
        for address in up:
            assert ChainKey(4, "filter", container_chain(address)) in found.chains, f"{address} is attached without a chain"
        assert not up or found.jumps in [each.jumps for each in tables if each.jumps]
        settings = {
            key: value
            for key, value in tables[-1].sysctls.items()
            if is_of_links(key, {host_interface(address) for address in up})
        }
        assert settings.items() <= found.sysctls.items(), "up before IPv6 is off"
        self._assert_reached(up, [frozenset() if state is None else permitted(state) for state in states])

    def _assert_reached(self, up: frozenset[IPv4Address], allowed: Sequence[frozenset[Call]]) -> None:
        """Between containers whose links are up nothing passes that no state allows, and everything does that each allows."""
        must = {call for call in frozenset.intersection(*allowed) if {call.source, call.target} <= up}
        connected = self.callers.connected(up=up, waiting_for=must)
        assert must <= connected, f"cut: {sorted(must - connected)}"
        assert connected <= frozenset.union(*allowed), f"let through: {sorted(connected - frozenset.union(*allowed))}"


def _of(table: ChainKey, tables: Tables) -> dict[ChainKey, tuple[str, ...]]:
    """Our chains in the same table as that one."""
    return {key: rules for key, rules in tables.chains.items() if (key.family, key.table) == (table.family, table.table)}


@pytest.fixture(params=[each.value for each in Backend])
def scene(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[Scene]:
    backend = Backend(request.param)
    # other processes write, and what this one has read of legacy would be believed for a while
    host = make_host(netns, containers=3, firewall=NftFirewall() if backend is Backend.NFT else LegacyFirewall())
    with fork_server() as bearing, callers(host) as calling:
        yield Scene(host, backend, bearing, calling)
    host.kernel.close()


def test_a_process_killed_between_any_two_effects_leaves_nothing_open_and_nothing_unmended(scene: Scene) -> None:
    web, api, third = (scene.host.workload(number) for number in range(3))
    one = scene.host.with_workloads(web, replace(api, allows=frozenset((allow(1, "8080"), allow(3, "8080")))))
    api, third = replace(api, allows=frozenset((allow(3, "8080-9090"),))), replace(third, allows=frozenset((allow(2, "9090"),)))
    other = scene.host.with_workloads(api, third)
    scene.arrives(one)
    whole = scene.inside(web)
    for number in itertools.count(1):
        if not scene.dies(other, before=number):
            break
        scene.arrives(other)
        assert scene.inside(third) == whole
        scene.back_to(one)
        clear_namespace(third.pin, address=third.address, envoy=ENVOY_ID)
    assert number > 20, "a link goes, another comes, each with all that belongs to it"


def test_a_walk_with_a_kill_at_each_step_always_arrives(scene: Scene) -> None:
    chance = random.Random(SEED)
    for _ in range(STEPS):
        state = any_state(scene.host, chance)
        scene.dies(state, before=chance.randrange(1, 30))
        scene.arrives(state)


def any_state(host: Host, chance: random.Random) -> HostState:
    """Some containers with some rights and limits; one container may have come, another gone, a third have other rights.

    Tunnels are served or not, so that redirects come and go; calls go past them.
    """
    attached = [number for number in range(3) if chance.random() < 0.7]
    workloads = (host.workload(number, *chance.sample(RIGHTS, chance.randrange(4))) for number in attached)
    return replace(
        host.with_workloads(*(replace(each, egress=chance.choice(OUT), limits=chance.choice(LIMITS)) for each in workloads)),
        mtu=chance.choice((1450, 1400)),
        groups={"org": frozenset(chance.sample((1, 2, 3), 2))},
        host_services=chance.choice(((), (HostService("tcp", 9001),))),
        egress_allowed=chance.random() < 0.5,
        mutual_tls=chance.choice((MutualTls(), MutualTls(served=True))),
    )
