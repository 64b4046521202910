"""Where calls are made and taken, and the way of each."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from host.namespace import NamespaceThread
from tests.testlib.oracle import OUTBOUND, TLS, TUNNELS, Mode
from tests.testlib.outside import IP_PKTINFO
from tests.walk.calls import TCP, UDP, Call

LISTEN = "0A"
RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER of zero seconds: no port is kept


@dataclass(frozen=True, eq=False)
class Way:
    """Of a call: made by `client`, at `source` if that has several addresses, to `target`; `server` takes it, at its address
    `arrives`, as from `seen`."""

    client: "Place"
    target: tuple[str, int]
    server: "Place"
    arrives: str
    seen: str
    source: str = ""


class Place:
    """A process in a container, or outside, that serves all ports but Envoy's, and makes calls."""

    def __init__(self, pin: Path, *, address: IPv4Address) -> None:
        self.pin, self.address = pin, address
        self._thread = NamespaceThread(pin)
        self.servers = self._thread.call(self._listening)

    def _listening(self) -> Mapping[socket.socket, tuple[str, int]]:
        made = {socket.create_server(("", port), backlog=200): ("tcp", port) for port in TCP}
        for port in UDP:
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            server.bind(("", port))
            made[server] = ("udp", port)
        for each in made:
            each.setblocking(False)
        return made

    def has_envoy(self, mode: Mode) -> bool:
        """Whether Envoy listens here on all of its ports, seen without a connection."""
        lines = self._thread.call(lambda: Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:])
        found = {int(line.split()[1].partition(":")[2], 16) for line in lines if line.split()[3] == LISTEN}
        return found.issuperset((TLS,) if mode is Mode.NONE else (TLS, OUTBOUND, TUNNELS))

    def begin(self, calls: Mapping[Call, Way]) -> dict[Call, socket.socket]:
        """A socket on its way for each of these calls."""
        return self._thread.call(lambda: {call: _begun(call, way) for call, way in calls.items()})

    def close(self) -> None:
        """The container is gone."""
        for each in self.servers:
            each.close()
        self._thread.close()


def _begun(call: Call, way: Way) -> socket.socket:
    tcp = call.protocol == "tcp"
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    made.setblocking(False)
    if tcp:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    if way.source:
        made.bind((way.source, 0))
    made.connect_ex(way.target)
    return made
