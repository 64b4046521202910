"""Chains of other programs that undo what policies allow, noticed on a real kernel in both flavours and in tables of nft."""

import socket
import struct
from collections.abc import Callable

import pytest

from dataplane.firewall.backends.backends import Backend, firewall
from dataplane.firewall.foreign import Harm, Passage, harmful_chains
from dataplane.state import HostService
from host.namespace import run_in
from host.netlink.messages import HEADER, NETLINK_NETFILTER, attribute, nested
from tests.testlib.hosts import OVERLAY, allow, await_carrier, make_host
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, TimedOut

INET = 1
PASSAGE = Passage(OVERLAY)
HOST_SERVICE = Passage(OVERLAY, ports=(HostService("tcp", 9001),))
VXLAN = (HostService("udp", 4789),)
TUNNEL = Passage(OVERLAY, ports=VXLAN, sent=VXLAN)


def other(backend: Backend) -> str:
    """The tool of the flavour that our rules are not in."""
    return f"iptables-{next(each for each in Backend if each is not backend).value}"


def found(host: Netns, backend: Backend, passage: Passage = PASSAGE) -> list[tuple[str, Harm]]:
    return [(each.where, each.harm) for each in run_in(host.path, lambda: harmful_chains(backend, passage))]


def make_nft_chain(host: Netns, *, hook: int, policy: int) -> None:
    """Table `inet shop` with a base chain `mine`, as the kernel is asked for it: the tool nft is seldom there."""
    chain = (
        attribute(1, b"shop\0") + attribute(3, b"mine\0") + attribute(7, b"filter\0")
        + nested(4, attribute(1, struct.pack("!I", hook)), attribute(2, struct.pack("!i", 10)))
        + attribute(5, struct.pack("!I", policy))
    )  # fmt: skip
    asked = ((0x10, 0, 10, b""), (0xA00, INET, 0, attribute(1, b"shop\0")), (0xA03, INET, 0, chain), (0x11, 0, 10, b""))

    def send() -> None:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as link:
            bodies = [(kind, struct.pack("!BBH", family, 0, extra) + body) for kind, family, extra, body in asked]
            link.send(b"".join(HEADER.pack(16 + len(body), kind, 0x401, 1, 0) + body for kind, body in bodies))

    run_in(host.path, send)


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_a_drop_in_the_other_flavour_eats_what_is_allowed_and_is_named_until_it_is_mended(
    netns: Callable[[str], Netns], backend: Backend
) -> None:
    host = make_host(netns, containers=2, firewall=firewall(backend))
    host.become(host.with_workloads(host.workload(0), host.workload(1, allow(1, "8080"))))
    web, api = (Node(each.path, address=host.empty.subnet[2 + number]) for number, each in enumerate(host.containers))
    await_carrier(host.containers[1], "eth0")
    api.listen(8080)
    assert web.connect(api, 8080) is Connected
    assert found(host.netns, backend) == []
    host.netns.run(other(backend), "-P", "FORWARD", "DROP")
    assert web.connect(api, 8080) is TimedOut
    (named,) = run_in(host.netns.path, lambda: harmful_chains(backend, PASSAGE))
    assert (named.harm, "FORWARD" in named.where) == (Harm.DROPPED, True)
    host.netns.run(*named.remedy.split())
    assert found(host.netns, backend) == []
    assert web.connect(api, 8080) is Connected
    for each in (web, api):
        each.close()
    host.close()


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
@pytest.mark.parametrize("rule", ["-j DROP", "-j REJECT"])
def test_a_last_rule_that_refuses_everything_is_named_as_a_policy_is(
    netns: Callable[[str], Netns], backend: Backend, rule: str
) -> None:
    host = netns("host")
    host.run(other(backend), "-A", "FORWARD", "-i", "eth7", "-j", "DROP")
    assert found(host, backend) == []
    host.run(other(backend), "-A", "FORWARD", *rule.split())
    assert [harm for _, harm in found(host, backend)] == [Harm.DROPPED]
    host.run(other(backend), "-I", "FORWARD", "-i", "cnet+", "-j", "ACCEPT")
    assert found(host, backend) == []


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_input_matters_where_containers_or_peers_call_the_host(netns: Callable[[str], Netns], backend: Backend) -> None:
    host = netns("host")
    host.run(other(backend), "-P", "INPUT", "DROP")
    host.run(other(backend), "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    assert found(host, backend) == []
    assert [harm for _, harm in found(host, backend, HOST_SERVICE)] == [Harm.DROPPED]
    host.run(other(backend), "-A", "INPUT", "-p", "tcp", "--dport", "9001", "-j", "ACCEPT")
    assert found(host, backend, HOST_SERVICE) == []


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_each_port_of_the_host_has_to_be_named(netns: Callable[[str], Netns], backend: Backend) -> None:
    host, passage = netns("host"), Passage(OVERLAY, ports=(*VXLAN, HostService("udp", 53), HostService("tcp", 53)))
    host.run(other(backend), "-P", "INPUT", "DROP")
    for port in (53, 4789):
        host.run(other(backend), "-F", "INPUT")
        host.run(other(backend), "-A", "INPUT", "-p", "udp", "--dport", str(port), "-j", "ACCEPT")
        (named,) = run_in(host.path, lambda: harmful_chains(backend, passage))
        assert named.remedy.endswith(f"-I INPUT -p udp --dport {4789 + 53 - port} -j ACCEPT")
        host.run(*named.remedy.split())
        assert found(host, backend, passage) == []


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_output_matters_where_the_cell_has_a_tunnel(netns: Callable[[str], Netns], backend: Backend) -> None:
    host = netns("host")
    host.run(other(backend), "-P", "OUTPUT", "DROP")
    host.run(other(backend), "-A", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "ACCEPT")
    assert found(host, backend) == found(host, backend, HOST_SERVICE) == []
    (named,) = run_in(host.path, lambda: harmful_chains(backend, TUNNEL))
    assert (named.harm, named.remedy.endswith("-I OUTPUT -p udp --dport 4789 -j ACCEPT")) == (Harm.DROPPED, True)
    host.run(*named.remedy.split())
    assert found(host, backend, TUNNEL) == []


@pytest.mark.parametrize("hook", [1, 3], ids=["input", "output"])
def test_a_table_of_nft_in_the_way_of_the_tunnel_is_mended_by_the_tunnels_port(
    netns: Callable[[str], Netns], hook: int
) -> None:
    host = netns("host")
    make_nft_chain(host, hook=hook, policy=0)
    assert found(host, Backend.NFT) == []
    (named,) = run_in(host.path, lambda: harmful_chains(Backend.NFT, TUNNEL))
    assert named.remedy == "nft insert rule inet shop mine udp dport 4789 accept"


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_a_table_of_nft_is_seen_beside_both(netns: Callable[[str], Netns], backend: Backend) -> None:
    host = netns("host")
    make_nft_chain(host, hook=2, policy=1)
    assert found(host, backend) == []
    make_nft_chain(host, hook=2, policy=0)
    assert found(host, backend) == [("chain mine of nft table inet shop", Harm.DROPPED)]


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_a_catch_all_translation_in_the_other_flavour_is_named(netns: Callable[[str], Netns], backend: Backend) -> None:
    host = netns("host")
    host.run(other(backend), "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.0/24", "-j", "MASQUERADE")
    assert found(host, backend) == []
    host.run(other(backend), "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
    assert [harm for _, harm in found(host, backend)] == [Harm.TRANSLATED]


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_the_same_table_is_behind_our_jump(netns: Callable[[str], Netns], backend: Backend) -> None:
    host = make_host(netns, containers=0, firewall=firewall(backend))
    host.become(host.empty)
    host.netns.run(f"iptables-{backend.value}", "-P", "FORWARD", "DROP")
    host.netns.run(f"iptables-{backend.value}", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
    assert found(host.netns, backend) == []
    host.close()
