"""Root changes its own end: addresses, routes, MACs, links, sysctls. That concerns its container, and no other."""

import os
import signal
import socket
import time
from contextlib import closing

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import ARP, Ether

from dataplane.tables import container_mac
from host.namespace import run_in
from tests.testlib.attacks.attacked_cell import STRICT, AttackedCell
from tests.testlib.attacks.attacker import capture, carrying, withstood
from tests.testlib.connections import is_reset
from tests.testlib.instance import Instance
from tests.testlib.mutation import Kernel, Setting, Without, stopped_by
from tests.testlib.node import Connected, Node, pair
from tests.testlib.patience import eventually

SPOOFING = (
    Without("raw", "CELLNET-PREROUTING", "-i cnet+ -g CELLNET-FORGED"),
    Without("raw", "CELLNET-PREROUTING", "rpfilter"),
    Setting("net/ipv4/conf/{mallory}/rp_filter", 0),
)
# what root does to its end; WEB is another container's address
CHANGES = {
    "another's address": ("ip addr add WEB/32 dev eth0", "ip route replace default via 169.254.0.1 dev eth0 onlink src WEB"),
    "no address": ("ip addr flush dev eth0",),
    "another route": ("ip route replace default dev eth0", "ip route add 10.255.0.0/16 dev eth0", "ip neigh flush dev eth0"),
    "another MAC": ("ip link set eth0 down", "ip link set eth0 address 02:c0:0a:ff:01:03", "ip link set eth0 up"),
    "link down": ("ip link set eth0 down",),
    "another name": ("ip link set eth0 down", "ip link set eth0 name eth9", "ip link add eth0 type bridge"),
    "link deleted": ("ip link del eth0",),
    "link deleted, another there": ("ip link del eth0", "ip link add eth0 type bridge", "ip link set eth0 up"),
    "macvlan": (
        "ip link add link eth0 name mv0 address 02:c0:0a:ff:01:03 type macvlan mode bridge",
        "ip addr add WEB/32 dev mv0",
        "ip link set mv0 up",
    ),
    "bridge": ("ip link add br0 type bridge", "ip link set eth0 master br0", "ip link set br0 up"),
    "sysctls": (
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0",
        "sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.conf.eth0.proxy_arp=1 net.ipv4.tcp_fwmark_accept=0",
        "ip rule flush",
        "ip link set eth0 mtu 9000",
    ),
    "own firewall": (
        "iptables-nft -t nat -A OUTPUT -p tcp --dport 8080 -j DNAT --to WEB:8080",
        "iptables-nft -t nat -A POSTROUTING -j SNAT --to-source WEB",
        "iptables-nft -t nat -A PREROUTING -p tcp --dport 61443 -j DNAT --to WEB:61443",
    ),
}


def _does(attacker: Instance, stage: AttackedCell, commands: tuple[str, ...]) -> None:
    for command in commands:
        attacker.run(*command.replace("WEB", str(stage.web.address)).split(), code=None)


@pytest.fixture
def other(stage: AttackedCell) -> Instance:
    """An attacker that may ruin its namespace."""
    return stage.another()


@pytest.mark.parametrize("backend", ["nft", STRICT], indirect=True)
@pytest.mark.parametrize("change", CHANGES)
def test_what_root_does_at_its_end_affects_no_other_container(stage: AttackedCell, other: Instance, change: str) -> None:
    client, server = pair(stage.web, stage.api, 8081)
    _does(other, stage, CHANGES[change])
    before = len(stage.api.callers(8080))
    assert not _reaches(other, stage.api, 8080)
    assert not _reaches(other, stage.host, 9000)
    assert len(stage.api.callers(8080)) == before
    client.sendall(b"still here")
    assert server.recv(100) == b"still here"
    stage.cell.policy_file("change.yaml", "policies:\n- {from: acme/shop/api, to: acme/shop/web, tcp: [8080]}\n")
    assert _reaches(stage.api, stage.web, 8080, within=5.0)
    stage.cell.remove_policy_file("change.yaml")
    assert not _reaches(stage.api, stage.web, 8080)
    assert not _reaches(stage.another("evil/shop/more"), stage.api, 8080)
    assert stage.web.get_tls(stage.api) == f"hello {stage.web.address}\n"


@pytest.mark.parametrize("backend", ["nft", STRICT], indirect=True)
def test_the_cell_is_well_again_when_a_ruined_container_has_gone(stage: AttackedCell) -> None:
    for change in ("link deleted, another there", "another name"):
        ruined = stage.cell.run_app("evil/shop/ruined", name="ruined")
        _does(ruined, stage, CHANGES[change])
        assert ruined.stop() is not None
    stage.cell.wait_well()
    assert "ruined" not in stage.cell.attachments()


@pytest.mark.parametrize("backend", ["nft"], indirect=True)
def test_a_ruined_container_hides_no_repair(stage: AttackedCell) -> None:
    """What was opened while our rules were flushed is cut, whatever another container is up to."""
    ruined, agent = stage.another("evil/shop/ruined"), stage.cell.agent_pid
    os.kill(agent, signal.SIGSTOP)  # or it repairs the container between two commands
    _does(ruined, stage, CHANGES["link deleted, another there"])
    os.kill(agent, signal.SIGCONT)
    eventually(lambda: not stage.cell.status().flag("ok"))
    time.sleep(0.3)  # until no second look is owed for the first attempt to repair the container
    os.kill(agent, signal.SIGSTOP)
    stage.iptables("-F", stage.ground.words["api_chain"])
    client, server = pair(stage.mallory, stage.api, 8081)
    os.kill(agent, signal.SIGCONT)
    assert is_reset(client)
    assert is_reset(server)


@stopped_by(*SPOOFING)
def test_a_program_with_anothers_address_is_not_let_through(stage: AttackedCell) -> None:
    """By the kernel's own sockets this time."""
    mallory, web = stage.mallory, str(stage.web.address)
    mallory.run("ip", "addr", "add", f"{web}/32", "dev", "lo")
    try:
        with capture(stage.api) as listening, closing(run_in(mallory.pin, lambda: _bound(web))) as forging:
            forging.sendto(b"forged", (str(stage.api.address), 8080))
            found = listening.packets(until=stage.wire.canary(stage.api))
        withstood(it=not carrying(b"forged", found))
    finally:
        mallory.run("ip", "addr", "del", f"{web}/32", "dev", "lo")


@stopped_by(Kernel("has one route and one permanent neighbour entry for each container"))
def test_anothers_mac_and_announcements_attract_no_traffic(stage: AttackedCell) -> None:
    mac, web = container_mac(stage.web.address), str(stage.web.address)
    with capture(stage.mallory) as listening:
        for operation in (1, 2):
            announcing = ARP(op=operation, hwsrc=container_mac(stage.mallory.address), psrc=web, pdst=web)
            stage.wire.send(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / announcing)
        assert stage.api.udp(stage.web, 7000) is Connected
        stage.settle()
        found = [each for each in listening.pending() if IP in each and each[IP].dst == web]
    withstood(it=not found)


def _reaches(caller: Node, target: Node, port: int, *, within: float = 0.3) -> bool:
    """Whether a word comes back within a moment: a client that has no way out waits for ever."""

    def ask() -> bool:
        with socket.create_connection((str(target.address), port), timeout=within) as made:
            made.sendall(b"?")
            return made.recv(1) == b"?"

    try:
        return run_in(caller.pin, ask)
    except OSError:
        return False


def _bound(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, 0))
    return made
