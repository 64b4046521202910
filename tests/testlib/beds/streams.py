"""Streams in tunnels without Envoy: the sockets that it would have at both ends, made by hand between containers of a bed."""

import socket
from dataclasses import dataclass

from dataplane.state import INBOUND_PORT, OUTBOUND_PORT
from dataplane.tables import ORIGINAL_SOURCE_MARK, TUNNEL_MARK
from tests.testlib.beds.conntrack import OVERLAY, BedContainer
from tests.testlib.connections import is_alive

IP_TRANSPARENT = 19
FROM_ENVOY = (TUNNEL_MARK, ORIGINAL_SOURCE_MARK)


@dataclass(frozen=True)
class CallerEnd:
    """What the redirect has brought to Envoy: the caller's own socket, and the one that Envoy has accepted."""

    client: socket.socket
    taken: socket.socket

    def lives(self) -> bool:
        return is_alive(self.client, self.taken)


@dataclass(frozen=True)
class AppEnd:
    """Envoy's socket to the app with the caller's address, and the one that the app has accepted."""

    envoy: socket.socket
    app: socket.socket

    def lives(self) -> bool:
        return is_alive(self.envoy, self.app)


def lead_to_envoy(container: BedContainer) -> socket.socket:
    """What an attach sets up in a container: its calls go to port 15001, and answers to marked sockets come back."""
    inside = container.netns
    for mark in FROM_ENVOY:
        inside.run("ip", "rule", "add", "fwmark", str(mark), "lookup", "77")
    inside.run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "77")
    inside.run("sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=1", "net.ipv4.fwmark_reflect=1")
    redirect = f"-A OUTPUT -d {OVERLAY} ! -o lo -p tcp ! --dport {INBOUND_PORT} -j REDIRECT --to-ports {OUTBOUND_PORT}"
    inside.run("iptables-nft", "-t", "nat", *redirect.split())
    return container.inside(lambda: socket.create_server(("127.0.0.1", OUTBOUND_PORT)))


def call(caller: BedContainer, taking: socket.socket, to: BedContainer, port: int) -> CallerEnd:
    """A connection of `caller` that ends at `taking`, the socket of `lead_to_envoy`."""
    client = caller.connect(to, port)
    return CallerEnd(client, caller.keep(taking.accept()[0]))


def arrive(to: BedContainer, caller: str, port: int, *, mark: int = TUNNEL_MARK) -> AppEnd:
    """A connection to the app at `port` with the address of `caller`, as Envoy makes it."""

    with to.listen(port) as listener:
        envoy = to.inside(lambda: dialled_as(caller, to.address, port, mark=mark))
        return AppEnd(envoy, to.keep(listener.accept()[0]))


def dialled_as(caller: str, to: str, port: int, *, mark: int = TUNNEL_MARK) -> socket.socket:
    """A connection in the calling thread's namespace, with the address of `caller` and Envoy's mark."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    made.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    made.bind((caller, 0))
    made.connect((to, port))
    return made
