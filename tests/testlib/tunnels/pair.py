"""Two containers that call each other through tunnels: a real Envoy at both ends, and what an attach makes in them for it."""

import socket
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from dataplane.envoy.outbound import LOOPBACK
from dataplane.envoy.sockets.container_ports import ContainerPort, await_listening
from dataplane.netlink import redirect
from dataplane.state import (
    INBOUND_PORT,
    OUTBOUND_PORT,
    Allow,
    InboundListener,
    Leaf,
    MutualTls,
    OutboundListener,
    Workload,
)
from dataplane.tables import TUNNEL_MARK, Redirect
from host.namespace import run_in
from tests.testlib.envoy import API, PORT, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import dial
from tests.testlib.netns import Netns
from tests.testlib.patience import PATIENCE

OVERLAY = IPv4Network("10.255.0.0/16")
RESERVED = frozenset({PORT, OUTBOUND_PORT, INBOUND_PORT})
WEB_TAG, API_TAG = 6, 7
SPACE = "spiffe://cell.internal/org/acme/space/shop/app/"
PRINCIPALS: Mapping[int, str] = {WEB_TAG: f"{SPACE}web", API_TAG: f"{SPACE}api"}
GROUP_PRINCIPALS: Mapping[str, str] = {"acme/shop/*": SPACE, "acme/*/*": "spiffe://cell.internal/org/acme/space/"}
STRICT = MutualTls(served=True, redirected=True, plain=False)


class TunnelPair:
    """`web` may reach ports 8000 to 8999 of `api`, until `allow` says something else.

    Tunnels take streams for `longest` seconds.
    """

    def __init__(self, cell: EnvoyCell, pair: EnvoyPair, *, longest: int = 3600) -> None:
        self.cell, self.pair, self._longest = cell, pair, longest
        for netns in (pair.web, pair.api):
            lead_into_tunnels(netns)
        cell.publish(mutual_tls=STRICT, principals=PRINCIPALS, group_principals=GROUP_PRINCIPALS)
        serve(cell, self.workload("web", WEB, WEB_TAG), self.workload("api", API, API_TAG, Allow(WEB_TAG, "tcp", 8000, 8999)))

    def workload(self, app: str, address: IPv4Address, tag: int, *allows: Allow, leaf: Leaf | None = None) -> Workload:
        """With both ends of tunnels; its certificate is that of `acme/shop/<app>` unless another is given."""
        netns = self.pair.web if address == WEB else self.pair.api
        shown = leaf or self.cell.leaf(f"acme/shop/{app}", address=address)
        ends = (OutboundListener(shown, self._longest), InboundListener(shown, RESERVED, self._longest))
        return Workload(app, address, tag, netns.path, allows=frozenset(allows), listeners=ends)

    def allow(self, *allows: Allow) -> None:
        """Give `api` these callers and no others; returns when Envoy has it."""
        self.cell.put(replace(self.cell.state.workloads[API], allows=frozenset(allows)))
        self.cell.settle(API)

    def reaches(self, port: int = 8080, *, address: IPv4Address = API, words: bytes = b"hello") -> bool:
        """Whether `web` gets its words back from there."""
        try:
            with dial(self.pair.web.path, address=address, port=port) as connection:
                connection.sendall(words)
                return connection.recv(len(words), socket.MSG_WAITALL) == words
        except OSError:
            return False


def serve(cell: EnvoyCell, *workloads: Workload) -> None:
    """Return when both ends of tunnels of each take connections."""
    cell.put(*workloads)
    cell.settle(*(each.address for each in workloads))
    for each in workloads:
        for address, port in ((LOOPBACK, OUTBOUND_PORT), (each.address, INBOUND_PORT)):
            await_listening(ContainerPort(address, port, each.pin), timeout=PATIENCE)


def lead_into_tunnels(netns: Netns) -> None:
    """What an attach makes in a container for tunnels: the way into them, and the way back to Envoy from the app."""
    wanted = Redirect(OVERLAY, direct_ports=(INBOUND_PORT, PORT), only_tunnels=True)
    run_in(netns.path, lambda: redirect.put(wanted))
    netns.run("ip", "rule", "add", "pref", "90", "fwmark", str(TUNNEL_MARK), "lookup", "77")
