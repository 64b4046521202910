"""A host with containers on veths, policed by a minimum of rules by hand, and the connections between them."""

import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import TypeVar

from dataplane.flows import conntrack, cut
from dataplane.flows.conntrack import Flow
from dataplane.flows.cut import Receipt, SweepPhase
from dataplane.flows.judge import NONE_DEPARTED, HostView
from dataplane.flows.places import Places
from dataplane.flows.streams import EnvoySockets, unknown_sockets
from dataplane.netlink.addresses import read
from dataplane.state import Allow, HostState, Workload
from host.namespace import run_in
from host.netlink.messages import NETLINK_ROUTE
from host.netlink.socket import NetlinkSocket, connect
from tests.testlib.netns import Netns

Result = TypeVar("Result")
OVERLAY = IPv4Network("10.200.0.0/16")
SUBNET = IPv4Network("10.200.1.0/24")
PATIENCE = 5.0  # seconds after which a test takes it that nothing comes

RULES = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:POLICED - [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p tcp ! --syn -j REJECT --reject-with tcp-reset
-A FORWARD -j POLICED
-A FORWARD -p tcp -j REJECT --reject-with tcp-reset
-A FORWARD -j REJECT
COMMIT
"""


@dataclass(frozen=True)
class BedContainer:
    """A namespace with an address."""

    netns: Netns
    workload: Workload
    sockets: list[socket.socket] = field(default_factory=list, repr=False)

    @property
    def address(self) -> str:
        return str(self.workload.address)

    def inside(self, make: Callable[[], socket.socket]) -> socket.socket:
        """A socket belongs to the namespace it is made in, also when it is used elsewhere."""
        return self.keep(run_in(self.netns.path, make))

    def keep(self, made: socket.socket) -> socket.socket:
        """Have a socket closed when the test ends."""
        made.settimeout(PATIENCE)
        self.sockets.append(made)
        return made

    def listen(self, port: int, *, everywhere: bool = False) -> socket.socket:
        """A TCP server on the own address, or on [::] for both families."""
        if everywhere:
            return self.inside(lambda: socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True))
        return self.inside(lambda: socket.create_server((self.address, port)))

    def connect(self, peer: "BedContainer | str", port: int, *, source_port: int = 0) -> socket.socket:
        address = peer if isinstance(peer, str) else peer.address
        return self.inside(
            lambda: socket.create_connection((address, port), timeout=PATIENCE, source_address=("", source_port))
        )

    def udp(self, port: int = 0) -> socket.socket:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((self.address, port))
            return made

        return self.inside(make)


class ConntrackBed:
    """The host, its containers and what it should permit; `permit` changes rules and state alike."""

    def __init__(self, make: Callable[[str], Netns]) -> None:
        self._make = make
        self._numbers = count(2)
        self._containers: list[BedContainer] = []
        self.host = make("host")
        self.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.host.run("iptables-nft-restore", stdin=RULES.encode())
        self.state = HostState(overlay=OVERLAY, subnet=SUBNET, mtu=1450, workloads={})

    def container(self, name: str, *, tag: int = 0) -> BedContainer:
        number = next(self._numbers)
        address = SUBNET[number]
        netns = self._make(name)
        near, far = f"02:00:00:00:01:{number:02x}", f"02:00:00:00:02:{number:02x}"
        outside = [
            f"link add v{number} address {near} type veth peer name eth0 address {far} netns {netns.name}",
            f"link set v{number} up",
            f"route add {address} dev v{number}",
            f"neigh add {address} lladdr {far} dev v{number} nud permanent",
        ]
        inside = [
            "link set eth0 up",
            f"addr add {address}/32 dev eth0",
            f"neigh add 169.254.0.1 lladdr {near} dev eth0 nud permanent",
            "route add default via 169.254.0.1 dev eth0 onlink",
        ]
        self.host.run("ip", "-batch", "-", stdin="\n".join(outside).encode())
        netns.run("ip", "-batch", "-", stdin="\n".join(inside).encode())
        workload = Workload(name=name, address=address, tag=tag or number, pin=netns.path)
        self.state = replace(self.state, workloads={**self.state.workloads, address: workload})
        self._containers.append(BedContainer(netns, workload))
        return self._containers[-1]

    def close(self) -> None:
        """Close all sockets; the namespaces are their maker's."""
        for made in (each for container in self._containers for each in container.sockets):
            made.close()

    def permit(self, *allowed: tuple[BedContainer, BedContainer, str, int]) -> None:
        """Exactly these from now on: source, destination, protocol, port."""
        rules = "*filter\n:POLICED - [0:0]\n" + "".join(
            f"-A POLICED -s {source.address} -d {target.address} -p {protocol} --dport {port} -j ACCEPT\n"
            for source, target, protocol, port in allowed
        )
        self.host.run("iptables-nft-restore", "--noflush", stdin=f"{rules}COMMIT\n".encode())
        changed = dict(self.state.workloads)
        for address, workload in self.state.workloads.items():
            changed[address] = replace(workload, allows=frozenset(
                Allow(source.workload.tag, protocol, port, port)
                for source, target, protocol, port in allowed if target.workload.address == address
            ))  # fmt: skip
        self.state = replace(self.state, workloads=changed)

    def flows(self) -> tuple[Flow, ...]:
        return self.with_table(conntrack.flows)

    def with_table(self, call: Callable[[NetlinkSocket], Result]) -> Result:
        """Run something with a conversation about the host's table."""

        def inside() -> Result:
            with conntrack.connect() as link:
                return call(link)

        return run_in(self.host.path, inside)

    def sweep(
        self,
        *containers: BedContainer,
        phases: Iterable[SweepPhase] = SweepPhase,
        departed: Mapping[IPv4Address, int] = NONE_DEPARTED,
        envoy: EnvoySockets = unknown_sockets,
    ) -> Receipt:
        """Cut what is forbidden to reach these containers, or any when none is named and none has departed."""
        addresses = [each.workload.address for each in containers] if containers or departed else None
        return self.sweep_addresses(addresses, phases=phases, departed=departed, envoy=envoy)

    def sweep_addresses(
        self,
        addresses: Collection[IPv4Address] | None,
        *,
        clock: cut.Clock = time.monotonic,
        phases: Iterable[SweepPhase] = SweepPhase,
        departed: Mapping[IPv4Address, int] = NONE_DEPARTED,
        envoy: EnvoySockets = unknown_sockets,
    ) -> Receipt:
        """The same for addresses, which may be of no container."""

        def taken(link: NetlinkSocket) -> Receipt:
            places = Places(None if addresses is None else frozenset(addresses), departed=departed)
            view = HostView(envoy, own=_own_addresses)
            swept = partial(cut.sweep, self.state, places, link=link, clock=clock, view=view)
            return reduce(Receipt.followed_by, [swept(phase=each) for each in phases])

        return self.with_table(taken)


def _own_addresses() -> frozenset[IPv4Address]:
    """Those of the namespace that the calling thread is in."""
    with connect(NETLINK_ROUTE) as route:
        return frozenset(each.local.ip for each in read(route))


def pair(
    client: BedContainer, server: BedContainer, port: int, *, everywhere: bool = False
) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection: the client's and the server's."""
    with server.listen(port, everywhere=everywhere) as listener:
        asking = client.connect(server, port)
        return asking, server.keep(listener.accept()[0])
