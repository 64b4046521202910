"""One cell under attack: a victim, its rightful caller, an attacker in a container, and a host outside.

`web` may reach `api` on TCP and UDP 8080-8089 and on 61443. `mallory` may reach nothing but the canary's port.
"""

import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from scapy.packet import Packet

from dataplane.tables import container_mac, host_mac, shaper_interface
from lab.cell import Cell
from lab.segment import OUTSIDE
from tests.testlib.attacks.attacker import CANARY_PORT, Wire, capture, captured
from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.instance import Instance
from tests.testlib.mutation import Ground
from tests.testlib.node import Node

BACKENDS = ("nft", "legacy")
STRICT = "strict"  # a stage of its own, with nft
SERVICE, UDP_SERVICE = 9001, 9002
POLICIES = f"""policies:
- {{name: rightful, from: acme/shop/web, to: acme/shop/api, tcp: [8080-8089, 2121, 61443], udp: [8080-8089]}}
- {{name: published, from: {{cidr: {OUTSIDE.ip}}}, to: acme/shop/api, tcp: 8080, udp: [8080, {CANARY_PORT}]}}
- {{name: canary, from: evil/shop/*, to: acme/shop/*, udp: [{CANARY_PORT}]}}
- {{name: also, from: same-space, to: acme/shop/*, udp: [{CANARY_PORT}]}}
"""
SPARE = 10  # more attackers, where an agent that is not there cannot make them
_numbers = itertools.count()


@dataclass(frozen=True)
class AttackedCell:
    """The cell and its containers. `wire` is mallory's interface."""

    cell: CellUnderTest
    backend: str
    web: Instance
    api: Instance
    mallory: Instance
    wire: Wire
    ground: Ground
    extra: list[Callable[[], object]] = field(default_factory=list)
    spare: list[Instance] = field(default_factory=list)

    @property
    def host(self) -> Node:
        return self.cell.host

    @property
    def outside(self) -> Node:
        return self.cell.outside

    def captured(self, *packets: Packet, at: Node | None = None) -> list[Packet]:
        """What arrives at a container (api) of what mallory sends."""
        return captured(self.wire, packets, at=at or self.api)

    def captured_by_host(self, *packets: Packet) -> list[Packet]:
        """What the host gets to see on mallory's link, filtered or not."""
        return captured(self.wire, packets, at=self.host, interface=self.mallory.interface, port=UDP_SERVICE)

    def settle(self) -> None:
        """Return when all that mallory has sent to the host is dealt with."""
        with self.host.datagrams(UDP_SERVICE) as service:
            payload = self.wire.canary(self.host, UDP_SERVICE)
            while service.recv(100).rstrip(b"\0") != payload:
                pass

    def another(self, app: str = "evil/shop/other") -> Instance:
        """One more attacker, for attacks that leave it in ruins; gone after the test, or spare again without an agent."""
        if self.spare:
            found = self.spare.pop()
            self.extra.extend((found.close, lambda: self.spare.append(found)))
            return found
        made = self.cell.run_app(app, name=f"other{next(_numbers)}")
        self.extra.append(made.stop)
        return made

    def wire_of(self, attacker: Instance) -> Wire:
        """Its interface."""
        return Wire(attacker, mac=container_mac(attacker.address), to=host_mac(attacker.address))

    def iptables(self, *words: str) -> str:
        """Change the host's iptables, as another program would."""
        return self.ground.iptables(*words)

    def undo(self) -> None:
        """Close the test's sockets; take back what it has done to the host."""
        for each in (self.web, self.api, self.host, self.outside):
            each.close()
        while self.extra:
            self.extra.pop()()

    @contextmanager
    def rule(self, table: str, chain: str, *rule: str) -> Iterator[None]:
        """A rule of another program on the host, last in its chain, for a while."""
        self.iptables("-t", table, "-A", chain, *rule)
        try:
            yield
        finally:
            self.iptables("-t", table, "-D", chain, *rule)


@contextmanager
def attacked_cell(
    backend: str,
    *overrides: str,
    policies: str = "",
    frozen: bool = False,
    limits: Sequence[str] = (),
    publish: Sequence[str] = (),
    kind: type[Cell] = Cell,
) -> Iterator[AttackedCell]:
    """A stage with a cell of its own, and perhaps more `policies`, `limits` for mallory and ports that api publishes. `frozen`:
    without its agent.

    That would put back what a test takes out; so all attackers that a test may want are made before. `backend` may be
    STRICT, for a cell with strict mutual TLS; `kind` is what runs in the cell.
    """
    if backend == STRICT:
        backend, overrides = "nft", (*overrides, "tls.mtls=strict")
    services = f"host_services=[{{protocol: tcp, port: {SERVICE}}}, {{protocol: udp, port: {UDP_SERVICE}}}]"
    with running_cell(f"firewall.backend={backend}", services, *overrides, kind=kind) as cell:
        cell.policy_file("stage.yaml", POLICIES)
        if policies:
            cell.policy_file("more.yaml", policies)
        api = cell.run_app(
            "acme/shop/api", port=[8080, CANARY_PORT], server=True, options=[f"--publish={each}" for each in publish]
        )
        web = cell.run_app("acme/shop/web", port=[8080, CANARY_PORT], server=True)
        mallory = cell.run_app("evil/shop/mallory", port=8080, server=True, options=limits)
        words = {each.name: each.interface for each in (api, web, mallory)}
        words |= {"mallory_shaper": shaper_interface(mallory.address)}
        words |= {f"{each.name}_chain": f"CELLNET-{int(each.address):08x}" for each in (api, web, mallory)}
        ground = Ground(cell.host, backend, words)
        wire = Wire(mallory, mac=container_mac(mallory.address), to=host_mac(mallory.address))
        spare: list[Instance] = []
        if frozen:
            spare = [cell.run_app("evil/shop/other", name=f"spare{number}") for number in range(SPARE)]
            cell.kill("agent")
        yield AttackedCell(cell, backend, web, api, mallory, wire, ground, spare=spare)


def conntrack_state(stage: AttackedCell, connection: socket.socket) -> str:
    """The state that the host's conntrack has of a connection, by one of its ends."""
    (_, one), (_, other) = connection.getsockname(), connection.getpeername()
    lines = stage.host.run("conntrack", "-L", "-p", "tcp").splitlines()
    ports = {f"port={one}", f"port={other}"}
    return next((line.split()[3] for line in lines if all(port in line for port in ports)), "gone")


def captured_segment(end: socket.socket, payload: bytes, *, seen_at: Node) -> Packet:
    """Send on a connection and give the TCP packet as the other end's wire had it: what an attacker at best can know."""
    with capture(seen_at) as listening:
        end.sendall(payload)
        found: Sequence[Packet] = []

        def this(frame: Packet) -> bool:
            nonlocal found
            found = [frame]
            return bool(frame.haslayer("TCP")) and bytes(frame["TCP"].payload) == payload

        listening.frames(until=this)
    segment: Packet = found[0]["IP"]
    return segment
