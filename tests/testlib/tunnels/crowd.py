"""Many containers of as many apps on one link, all of which call one other through tunnels of one Envoy."""

import asyncio
import socket
from ipaddress import IPv4Address

from dataplane.state import Allow, InboundListener, OutboundListener, Workload
from host.namespace import run_in
from tests.testlib.envoy import API, EnvoyCell, LoopThread, allow_original_source
from tests.testlib.netns import Netns
from tests.testlib.tunnels.pair import RESERVED, SPACE, STRICT, lead_into_tunnels, serve

FIRST, FIRST_TAG, FIRST_PORT = IPv4Address("10.255.1.10"), 100, 8000


class Greeting(asyncio.Protocol):
    """Tells a caller its address and port as seen, and then sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._caller = transport
        (peer, _), (_, port) = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        transport.write(f"{peer} {port}\n".encode())

    def data_received(self, data: bytes) -> None:
        self._caller.write(data)


class GreetingApp:
    """On many ports of `api`; one loop for all connections."""

    def __init__(self, container: Netns, ports: range, loop: LoopThread) -> None:
        def listeners() -> list[socket.socket]:
            return [socket.create_server((str(API), port), backlog=1024) for port in ports]

        made = run_in(container.path, listeners)
        self._loop = loop
        self._servers = [loop.run(loop.loop.create_server(Greeting, sock=each)) for each in made]

    def close(self) -> None:
        for each in self._servers:
            self._loop.call(each.close)


class TunnelCrowd:
    """`api` and `count` callers; the app of number n may reach port 8000 + n of `api` and no other."""

    def __init__(self, cell: EnvoyCell, count: int) -> None:
        self.cell, self.numbers = cell, range(count)
        self._switch = Netns("switch")
        self._switch.run("sh", "-c", "ip link add br0 type bridge && ip link set br0 up")
        self.api = self._container("api", API)
        self.callers = [self._container(f"app{number}", FIRST + number) for number in self.numbers]
        principals = {FIRST_TAG + number: f"{SPACE}app-{number}" for number in self.numbers}
        cell.publish(mutual_tls=STRICT, principals=principals)
        allows = frozenset(Allow(FIRST_TAG + n, "tcp", FIRST_PORT + n, FIRST_PORT + n) for n in self.numbers)
        workloads = [self._workload(f"app-{n}", FIRST + n, FIRST_TAG + n, self.callers[n]) for n in self.numbers]
        serve(cell, self._workload("api", API, 7, self.api, allows), *workloads)

    def _container(self, word: str, address: IPv4Address) -> Netns:
        made = Netns(word)
        port = f"p{int(address) & 0xFF}"
        self._switch.run("sh", "-ec", f"ip link add {port} master br0 up type veth peer name eth0 netns {made.name}")
        made.run("sh", "-ec", f"ip address add {address}/24 dev eth0; ip link set eth0 up")
        allow_original_source(made)
        lead_into_tunnels(made)
        return made

    def _workload(
        self, app: str, address: IPv4Address, tag: int, netns: Netns, allows: frozenset[Allow] = frozenset()
    ) -> Workload:
        leaf = self.cell.leaf(f"acme/shop/{app}", address=address)
        ends = (OutboundListener(leaf, longest=3600), InboundListener(leaf, RESERVED, longest=3600))
        return Workload(app, address, tag, netns.path, allows=allows, listeners=ends)

    def dial(self, number: int, port: int) -> socket.socket:
        """A connection of that app to `api`, which does not block."""
        made = run_in(self.callers[number].path, lambda: socket.create_connection((str(API), port), timeout=10))
        made.setblocking(False)
        return made

    def close(self) -> None:
        for each in (*self.callers, self.api, self._switch):
            each.close()
