"""A cell's kernel side without an agent: a namespace as the host, others as containers, HostStates by hand."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from dataplane.apply import Outcome
from dataplane.compile import compile_tables
from dataplane.firewall.backends.driver import Firewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.flows.cut import Receipt, SweepPhase
from dataplane.flows.judge import NONE_DEPARTED
from dataplane.flows.places import Places
from dataplane.kernel import Kernel
from dataplane.plan import Plan, plan
from dataplane.state import Allow, HostState, Leaf, TlsListener, Tunnel, Workload
from dataplane.tables import Tables
from tests.testlib.netns import Netns

OVERLAY, SUBNET = IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24")
FIRST = IPv4Address("10.255.1.2")
WORLD = IPv4Address("10.77.0.254")
EMPTY = HostState(overlay=OVERLAY, subnet=SUBNET, mtu=1450, workloads={})


def allow(tag: int, ports: str, protocol: str = "tcp") -> Allow:
    """`allow(1, "8080")`, `allow(1, "9000-9010", "udp")`."""
    first, _, last = ports.partition("-")
    return Allow(tag, protocol, int(first), int(last or first))


@dataclass
class Host:
    """The host's namespace and the dataplane's hold on it."""

    netns: Netns
    kernel: Kernel
    containers: list[Netns]
    state: HostState = EMPTY
    empty: HostState = EMPTY  # where it begins: its part of the overlay, and its peers
    world: Netns | None = None  # where its default route leads

    def __post_init__(self) -> None:
        self.netns.before_close(self.close)

    def close(self) -> None:
        """Give the dataplane's sockets and threads back, before the test ends or then."""
        self.kernel.close()

    def become(self, state: HostState) -> Outcome:
        """Read, plan and apply, as the agent would after a start."""
        tables = compile_tables(state)
        outcome = self.kernel.apply(plan(tables, self.read(tables)), tables).result()
        self.state = state
        return outcome

    def turn(self, state: HostState) -> Plan:
        """Plan against what the last state has made, and apply, as the agent does in every turn after the first."""
        before, tables = compile_tables(self.state), compile_tables(state)
        changes = plan(tables, before)
        outcome = self.kernel.apply(changes, tables).result()
        assert (outcome.failures, outcome.overlay) == ({}, None)
        self.state = state
        return changes

    def sweep(self, *addresses: IPv4Address, departed: Mapping[IPv4Address, int] = NONE_DEPARTED) -> Receipt:
        """Cut what the present state forbids: at these addresses, or everywhere where there are none and none departed."""
        named = frozenset(addresses)
        places = Places(named if named or departed else None, leaving=named, departed=departed)
        swept = partial(self.kernel.sweep, self.state, places, clock=time.monotonic)
        return swept(phase=SweepPhase.FIRST).result().followed_by(swept(phase=SweepPhase.LATER).result())

    def read(self, tables: Tables) -> Tables:
        """What the kernel has now."""
        return self.kernel.read(tables, known={}).result()

    def left_to_do(self) -> Plan:
        """What a plan for the present state still wants."""
        tables = compile_tables(self.state)
        return plan(tables, self.read(tables))

    def workload(self, number: int, *allows: Allow, tag: int | None = None) -> Workload:
        """Container `number` (from 0) with tag number + 1."""
        return Workload(
            name=f"c{number}", address=self.empty.subnet[2 + number], tag=tag or number + 1, pin=self.containers[number].path,
            allows=frozenset(allows), listeners=(TlsListener(61443, Leaf(b"", b""), 8080),),
        )  # fmt: skip

    def with_workloads(self, *workloads: Workload) -> HostState:
        """The empty cell with these."""
        return replace(self.empty, workloads={each.address: each for each in workloads})


def make_host(netns: Callable[[str], Netns], *, containers: int, firewall: Firewall | None = None) -> Host:
    """A host with an address of its own (ICMP errors need one) and forwarding off, as a fresh machine has it."""
    host = netns("host")
    for argv in ("link add u0 type bridge", "addr add 10.77.0.1/24 dev u0", "link set u0 up"):
        host.run("ip", *argv.split())
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    return Host(
        host, Kernel(firewall or NftFirewall(), namespace=host.path), [netns(f"c{number}") for number in range(containers)]
    )


def subnet_of(number: int) -> IPv4Network:
    """A cell's part of the overlay; cells are numbered from 1."""
    return IPv4Network(f"10.255.{number}.0/24")


def underlay_of(number: int) -> IPv4Address:
    """Its address below."""
    return IPv4Address(f"10.77.0.{number}")


def cell_state(number: int, *, of: int, port: int = 4789, vni: int = 1) -> HostState:
    """An empty cell with `of` - 1 peers."""
    return HostState(
        overlay=OVERLAY, subnet=subnet_of(number), mtu=1450, workloads={},
        tunnel=Tunnel("u0", underlay_of(number), vni, port),
        peers={subnet_of(each): underlay_of(each) for each in range(1, of + 1) if each != number},
    )  # fmt: skip


def await_carrier(host: Netns, link: str) -> None:
    """Until a link carries packets: for some milliseconds after both its ends are up, it loses what is sent."""
    until = time.monotonic() + 20
    while "LOWER_UP" not in (shown := host.run("ip", "link", "show", link)) or "qdisc noop " in shown:
        assert time.monotonic() < until
        time.sleep(0.002)


def make_hosts(netns: Callable[[str], Netns], *, count: int, containers: int, firewalls: Sequence[Firewall] = ()) -> list[Host]:
    """Hosts on one switch, which is the world to them; each has the others as peers (cell_state)."""
    switch = netns("switch")
    switch.run("ip", "link", "add", "s", "type", "bridge")
    switch.run("ip", "addr", "add", f"{WORLD}/24", "dev", "s")
    switch.run("ip", "link", "set", "s", "up")
    made = []
    for number in range(1, count + 1):
        host = netns(f"host{number}")
        port = f"p{number}"
        host.run("ip", "link", "add", "u0", "type", "veth", "peer", "name", port, "netns", switch.name)
        for argv in (f"addr add {underlay_of(number)}/24 dev u0", "link set u0 up", f"route add default via {WORLD}"):
            host.run("ip", *argv.split())
        switch.run("ip", "link", "set", port, "master", "s", "up")
        await_carrier(host, "u0")
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        kernel = Kernel(firewalls[number - 1] if firewalls else NftFirewall(), namespace=host.path)
        inside = [netns(f"c{number}{each}") for each in range(containers)]
        made.append(Host(host, kernel, inside, empty=cell_state(number, of=count), world=switch))
    return made
