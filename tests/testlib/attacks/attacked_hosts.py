"""Three cells under attack: hosts without agents on one segment, so that nothing repairs what a test changes.

`web` and `mallory` are on cell 1, `api` and `eve` on cell 2, `far` and `near` on cell 3. `web` and `api` may call each other on
TCP and UDP 8080, mallory api on UDP 4789, all of them all others on the canary's port. `as_root` is what root of a cell can do.
"""

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.state import HostService, HostState, Resolver
from dataplane.tables import container_mac, host_interface, host_mac, tunnel_mac
from host.namespace import run_in
from tests.testlib.attacks.attacker import CANARY_PORT, Wire, capture
from tests.testlib.dns.client import RESOLVER
from tests.testlib.hosts import WORLD, Host, allow, await_carrier, make_hosts, underlay_of
from tests.testlib.mutation import Ground
from tests.testlib.netns import Netns
from tests.testlib.node import Node

BACKENDS = {"nft": NftFirewall, "legacy": LegacyFirewall}
WEB, MALLORY, API, EVE, FAR, NEAR = range(1, 7)  # tags
EVERYBODY = (WEB, MALLORY, API, EVE, FAR, NEAR)
NAMES = ("web", "mallory", "api", "eve", "far", "near")
SERVICE, UDP_SERVICE, VXLAN_PORT = 9001, 9002, 4789
CANARY = b"canary"


@dataclass(frozen=True)
class AttackedHosts:
    """Cells from 1, containers by name."""

    hosts: Sequence[Host]
    cells: Sequence[Node]
    containers: dict[str, Node]
    outside: Node
    ground: Ground
    extra: list[Callable[[], object]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Node:
        return self.containers[name]

    def cell(self, number: int) -> Node:
        """A cell itself, known by its address in the underlay."""
        return self.cells[number - 1]

    def end_of(self, number: int) -> str:
        """The address of its tunnel's end."""
        return str(self.hosts[number - 1].empty.subnet[0])

    def wire(self, name: str) -> Wire:
        """A container's interface."""
        place = self[name]
        return Wire(place, mac=container_mac(place.address), to=host_mac(place.address))

    def datagram(self, source: str, to: str, payload: bytes = b"forged", *, port: int = 8080) -> Packet:
        """One between containers by name, or other addresses."""
        addresses = [str(self[each].address) if each in self.containers else each for each in (source, to)]
        return IP(src=addresses[0], dst=addresses[1]) / UDP(sport=5000, dport=port) / payload

    def tunnelled(self, inner: Packet, *, tag: int = WEB, origin: int = 1, to: int = 2, **header: int) -> bytes:
        """What the kernel of cell `origin` would wrap it in for cell `to`."""
        ends = [tunnel_mac(self.hosts[number - 1].empty.subnet[0]) for number in (origin, to)]
        frame = inner if isinstance(inner, Ether) else Ether(src=ends[0], dst=ends[1]) / inner
        return vxlan(bytes(frame), tag=tag, **header)

    def as_root(self, payloads: Sequence[bytes], *, of: int = 1, at: int = 2) -> None:
        """Root of a cell sends these to another cell's tunnel."""
        send_to_tunnel(self.cell(of), payloads, to=str(underlay_of(at)))

    def arrived(self, attack: Callable[[], object], *, at: str, origin: int = 1, payload: bytes = b"forged") -> bool:
        """Whether a payload arrives at a container, sent through the tunnel by root of a cell or dropped before."""
        return payload in b"".join(bytes(each) for each in self.frames(attack, at=at, origin=origin))

    def frames(self, attack: Callable[[], object], *, at: str, origin: int = 1) -> list[Packet]:
        """What arrives at a container until, after the attack, a canary has come from a cell in the same way."""
        known = f"{CANARY!r} {len(self.extra)} {id(attack)}".encode()
        sender = "mallory" if origin == 1 else "eve" if origin == 2 else "near"
        number = 1 + list(self.containers).index(at) // 2
        with capture(self[at]) as listening:
            attack()
            canary = self.datagram(sender, at, known, port=CANARY_PORT)
            if number == origin:
                self.wire(sender).send(canary)
            else:
                self.as_root([self.tunnelled(canary, tag=MALLORY, origin=origin, to=number)], of=origin, at=number)
            return listening.frames(until=lambda frame: UDP in frame and bytes(frame[UDP].payload).rstrip(b"\0") == known)

    def dealt_with(self, *, at: int) -> None:
        """Return when what has been sent to a cell before, from its segment, is dealt with."""
        with self.cell(at).datagrams(UDP_SERVICE) as service, self.outside.datagrams() as sender:
            sender.sendto(CANARY, (str(underlay_of(at)), UDP_SERVICE))
            while service.recv(100) != CANARY:
                pass

    def undo(self) -> None:
        """Close the test's sockets; take back what it has done."""
        for each in (*self.cells, *self.containers.values(), self.outside):
            each.close()
        while self.extra:
            self.extra.pop()()


def vxlan(frame: bytes, *, tag: int, flags: int = 0x88, policy: int = 0, vni: int = 1, reserved: int = 0) -> bytes:
    """In VXLAN: flag 0x80 means that there is a tag, 0x08 that there is a VNI."""
    return struct.pack(">BBHI", flags, policy, tag, vni << 8 | reserved) + frame


def send_to_tunnel(place: Node, payloads: Sequence[bytes], *, to: str, source: str = "", port: int = 0) -> None:
    """Datagrams to a tunnel's port from a socket of a place."""
    with run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.bind((source, port))
        for each in payloads:
            try:
                sender.sendto(each, (to, VXLAN_PORT))
            except OSError:
                continue  # refused by a rule, or an error of the one before


@contextmanager
def attacked_hosts(backend: str) -> Iterator[AttackedHosts]:
    """All up, with one backend."""
    with ExitStack() as stack:

        def netns(word: str) -> Netns:
            made = Netns(word)
            stack.callback(made.close)
            return made

        hosts = make_hosts(netns, count=3, containers=2, firewalls=[BACKENDS[backend]() for _ in range(3)])
        for number, host in enumerate(hosts):
            stack.callback(host.kernel.close)
            host.become(_inhabited(host, first=2 * number))
            for place, address in zip(host.containers, host.state.workloads, strict=True):
                await_carrier(place, "eth0")
                await_carrier(host.netns, host_interface(address))
        made = _attacked(hosts, backend)
        stack.callback(made.undo)
        yield made


def _inhabited(host: Host, *, first: int) -> HostState:
    canary = [allow(tag, str(CANARY_PORT), "udp") for tag in EVERYBODY]
    rightful = {WEB: [allow(API, "8080"), allow(API, "8080", "udp")]}
    rightful[API] = [allow(WEB, "8080"), allow(WEB, "8080", "udp"), allow(MALLORY, str(VXLAN_PORT), "udp")]
    workloads = [
        host.workload(number, *canary, *rightful.get(tag, ()), tag=tag)
        for number, tag in enumerate(EVERYBODY[first : first + 2])
    ]
    services = (HostService("tcp", SERVICE), HostService("udp", UDP_SERVICE))
    return replace(host.with_workloads(*workloads), host_services=services, resolver=Resolver(RESOLVER, ("cell.internal",)))


def _attacked(hosts: Sequence[Host], backend: str) -> AttackedHosts:
    cells = [Node(host.netns.path, address=underlay_of(number)) for number, host in enumerate(hosts, 1)]
    places = [
        Node(inside.path, address=host.empty.subnet[2 + number])
        for host in hosts for number, inside in enumerate(host.containers)
    ]  # fmt: skip
    containers = dict(zip(NAMES, places, strict=True))
    words = {name: host_interface(place.address) for name, place in containers.items()}
    words |= {f"{name}_chain": f"CELLNET-{int(place.address):08x}" for name, place in containers.items()}
    world = hosts[0].world
    assert world is not None
    others = {f"cell {number}": cell for number, cell in enumerate(cells, 1)}
    ground = Ground(cells[0], backend, words, others)
    return AttackedHosts(hosts, cells, containers, Node(world.path, address=WORLD), ground)
