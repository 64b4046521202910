"""A cell's kernel side without an agent: a namespace as the host, others as containers, HostStates by hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from dataplane.apply import Kernel, Outcome
from dataplane.compile import compile_tables
from dataplane.firewall.driver import Firewall
from dataplane.firewall.nft import NftFirewall
from dataplane.plan import Plan, plan
from dataplane.state import Allow, HostState, Leaf, Tls, Workload
from dataplane.tables import Tables
from tests.testlib.netns import Netns

OVERLAY, SUBNET = IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24")
FIRST = IPv4Address("10.255.1.2")
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

    def become(self, state: HostState) -> Outcome:
        """Read, plan and apply, as the agent would after a start."""
        tables = compile_tables(state)
        outcome = self.kernel.apply(plan(tables, self.read(tables)), tables).result()
        self.state = state
        return outcome

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
            name=f"c{number}", address=FIRST + number, tag=tag or number + 1, pin=self.containers[number].path,
            allows=frozenset(allows), tls=Tls(Leaf(b"", b""), 8080),
        )  # fmt: skip

    def with_workloads(self, *workloads: Workload) -> HostState:
        """The empty cell with these."""
        return replace(EMPTY, workloads={each.address: each for each in workloads})


def make_host(netns: Callable[[str], Netns], *, containers: int, firewall: Firewall | None = None) -> Host:
    """A host with an address of its own (ICMP errors need one) and forwarding off, as a fresh machine has it."""
    host = netns("host")
    for argv in ("link add u0 type bridge", "addr add 10.77.0.1/24 dev u0", "link set u0 up"):
        host.run("ip", *argv.split())
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    return Host(
        host, Kernel(firewall or NftFirewall(), namespace=host.path), [netns(f"c{number}") for number in range(containers)]
    )
