"""A container whose answers would look like a peer's tunnelled packets."""

import socket

from scapy.layers.inet import UDP

from dataplane.firewall.legacy import LegacyFirewall
from host.namespace import run_in
from tests.dataplane.test_tunnel_packets import both, echoing, tunnelled
from tests.testlib.node import Connected
from tests.testlib.patience import eventually
from tests.testlib.two_hosts import TwoHosts

__all__ = ["both"]  # the fixture


def test_a_published_port_that_a_peer_has_called_from_the_tunnels_port_cannot_pass_for_its_cell(both: TwoHosts) -> None:
    """The peer's own guest can have called, behind its address. The answer is of a flow that is allowed."""
    here = both.here.netns
    legacy = isinstance(both.here.kernel._firewall, LegacyFirewall)
    here.run("iptables-legacy" if legacy else "iptables-nft", "-t", "nat", "-A", "PREROUTING", "-d", "10.77.0.1", "-p", "udp",
             "--dport", "5353", "-j", "DNAT", "--to", f"{both.web.address}:5353")  # fmt: skip

    def call(port: int, words: bytes) -> None:
        with run_in(both.there.netns.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)) as raw:
            raw.sendto(bytes(UDP(sport=port, dport=5353, len=8 + len(words), chksum=0)) + words, ("10.77.0.1", 0))

    with echoing(both.api, 8080) as heard, echoing(both.web, 5353) as called:
        call(4789, tunnelled(both, b"forged"))
        eventually(lambda: len(called) == 1)
        assert both.web.udp(both.api, 8080) is Connected
        assert b"forged" not in heard
