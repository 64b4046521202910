"""Does a peer's end of the tunnel answer: asked of a namespace that refuses as a peer's rules do."""

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from dataplane.tunnel_probe import TunnelAnswer, probe
from host.namespace import run_in
from tests.testlib.netns import Netns

VTEP = IPv4Address("10.255.2.0")
REFUSALS = ("-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT --reject-with icmp-port-unreachable")


@pytest.fixture
def peers(netns: Callable[[str], Netns]) -> tuple[Netns, Netns]:
    """A host that asks, and one that refuses everything."""
    here, there = netns("here"), netns("there")
    here.run("ip", "link", "add", "u0", "type", "veth", "peer", "name", "u0", "netns", there.name)
    for host, own, other in ((here, "10.255.1.0", str(VTEP)), (there, str(VTEP), "10.255.1.0")):
        host.run("ip", "addr", "add", f"{own}/32", "peer", f"{other}/32", "dev", "u0")
        host.run("ip", "link", "set", "u0", "up")
    for refusal in REFUSALS:
        there.run("iptables", "-A", "INPUT", *refusal.split())
    return here, there


def asked(host: Netns, *, mtu: int = 1500) -> TunnelAnswer:
    return run_in(host.path, lambda: asyncio.run(probe(VTEP, mtu=mtu, seconds=0.5)))


def test_a_refusal_is_an_answer(peers: tuple[Netns, Netns]) -> None:
    assert asked(peers[0]) is TunnelAnswer.ALL


def test_a_peer_that_takes_what_comes_answers_too(peers: tuple[Netns, Netns]) -> None:
    peers[1].run("iptables", "-F")
    assert asked(peers[0]) is TunnelAnswer.ALL


def test_no_answer_is_silence(peers: tuple[Netns, Netns]) -> None:
    peers[1].run("iptables", "-I", "INPUT", "-j", "DROP")
    assert asked(peers[0]) is TunnelAnswer.NONE


def test_no_way_there_is_silence(peers: tuple[Netns, Netns]) -> None:
    peers[0].run("ip", "link", "set", "u0", "down")
    assert asked(peers[0]) is TunnelAnswer.NONE


def test_a_path_that_loses_packets_of_full_size_is_recognized(peers: tuple[Netns, Netns]) -> None:
    peers[1].run("iptables", "-I", "INPUT", "-m", "length", "--length", "1401:65535", "-j", "DROP")
    assert asked(peers[0]) is TunnelAnswer.ONLY_SMALL
    assert asked(peers[0], mtu=1400) is TunnelAnswer.ALL


def test_a_path_that_is_narrower_than_the_mtu_is_recognized(peers: tuple[Netns, Netns]) -> None:
    peers[0].run("ip", "link", "set", "u0", "mtu", "1400")
    assert asked(peers[0]) is TunnelAnswer.ONLY_SMALL
