"""Published ports under attack: from outside, from containers, and by packets that claim to come from elsewhere."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from host.namespace import run_in
from tests.testlib.attacks.attacked_cell import BACKENDS, AttackedCell, attacked_cell
from tests.testlib.attacks.attacker import Wire, capture, carrying, mac_of, withstood
from tests.testlib.mutation import Kernel, Setting, Without, asked, perhaps_mutated, stopped_by
from tests.testlib.node import PATIENCE, Connected, Node, Outcome, Refused, outcome_of
from tests.testlib.outside import caller, served

PORT, UNPUBLISHED = 7180, 7181
HOSTS_OWN = 7182  # of a program of the host
HOST6, OUTSIDE6 = "2001:db8:77::1", "2001:db8:77::2"
GOOD, BAD = "198.18.1.1", "198.18.2.1"
POLICIES = """policies:
- {name: in, from: {cidr: [198.18.1.0/24, 10.254.0.0/15]}, to: acme/shop/api, tcp: 8080, udp: 8080, icmp: echo}
- {name: out, from: evil/shop/mallory, to: {cidr: 0.0.0.0/0}, tcp: any, udp: any}
"""
DENIED = Without("filter", "{api_chain}", "CELLNET-REJECT")
NO_RIGHT = Without("filter", "{api_from}", "CELLNET-REJECT")
STRAIGHT_IN = Without("filter", "CELLNET-NEW", "-j CELLNET-REJECT")
FORGED_INSIDE = (
    Without("raw", "CELLNET-PREROUTING", "-i cnet+ -g CELLNET-FORGED"),
    Without("raw", "CELLNET-PREROUTING", "rpfilter"),
    Setting("net/ipv4/conf/{mallory}/rp_filter", 0),
)
FORGED_OUTSIDE = (
    Without("filter", "CELLNET-INGRESS", "-s 10.255.0.0/16"),
    Without("raw", "CELLNET-PREROUTING", "rpfilter"),
    Setting("net/ipv4/conf/all/rp_filter", 0),
    Setting("net/ipv4/conf/eth0/rp_filter", 0),
)


@pytest.fixture(scope="module", params=BACKENDS)
def open_stage(request: pytest.FixtureRequest) -> Iterator[AttackedCell]:
    ports = (f"{PORT}:8080", f"{PORT}:8080/udp")
    with attacked_cell(request.param, policies=POLICIES, publish=ports, frozen=asked(request.config)) as made:
        way = made.iptables("-S", "CELLNET-INGRESS-0").split(f"-d {made.api.address}/32 -g ")[1]
        made.ground.words["api_from"] = way.split()[0]
        with served(made.outside):
            yield made


@pytest.fixture
def stage(open_stage: AttackedCell, request: pytest.FixtureRequest) -> Iterator[AttackedCell]:
    with perhaps_mutated(open_stage.ground, request):
        yield open_stage
        open_stage.undo()


def over_ipv6(client: Node, kind: socket.SocketKind, port: int) -> Outcome:
    with run_in(client.pin, lambda: socket.socket(socket.AF_INET6, kind)) as made:
        made.settimeout(PATIENCE)

        def call() -> None:
            made.connect((HOST6, port))
            if kind is socket.SOCK_DGRAM:
                made.send(b"?")
                made.recv(16)

        return outcome_of(call)


@stopped_by(NO_RIGHT)
def test_an_address_that_no_policy_names_is_refused(stage: AttackedCell) -> None:
    good, bad = (caller(stage.outside, each) for each in (GOOD, BAD))
    assert good.get(stage.host, PORT) == f"hello {GOOD}\n"
    assert good.udp(stage.host, PORT) is Connected
    assert good.connect(stage.host, UNPUBLISHED) is Refused
    withstood(it=bad.connect(stage.host, PORT) is Refused)
    withstood(it=bad.udp(stage.host, PORT) is Refused)


@stopped_by(DENIED)
def test_no_container_gets_round_a_policy_by_a_published_port_or_its_way_out(stage: AttackedCell) -> None:
    assert stage.web.connect(stage.host, PORT) is stage.web.udp(stage.host, PORT) is Connected
    withstood(it=stage.mallory.connect(stage.host, PORT) is Refused)
    withstood(it=stage.mallory.udp(stage.host, PORT) is Refused)


@stopped_by(STRAIGHT_IN)
def test_a_packet_for_the_overlay_itself_is_refused_whatever_its_source_may(stage: AttackedCell) -> None:
    stage.outside.run("ip", "route", "add", f"{stage.api.address}/32", "via", str(stage.host.address))
    stage.extra.append(lambda: stage.outside.run("ip", "route", "del", f"{stage.api.address}/32"))
    good = caller(stage.outside, GOOD)
    withstood(it=good.connect(stage.api, 8080) is Refused)
    withstood(it=good.udp(stage.api, 8080) is Refused)


@stopped_by(STRAIGHT_IN)
def test_a_ping_of_the_outside_comes_to_the_cell_itself_and_to_no_container(stage: AttackedCell) -> None:
    """Not even where a policy has `icmp: echo` for its source: no port leads it in."""
    stage.outside.run("ip", "route", "add", f"{stage.api.address}/32", "via", str(stage.host.address))
    stage.extra.append(lambda: stage.outside.run("ip", "route", "del", f"{stage.api.address}/32"))
    with capture(stage.api) as listening:
        assert caller(stage.outside, GOOD).ping(stage.host) is Connected
        assert not any(ICMP in each for each in listening.packets(until=stage.wire.canary(stage.api)))
    withstood(it=caller(stage.outside, GOOD).ping(stage.api) is Refused)


@stopped_by(Kernel("ports are published by translations of IPv4, and the host's own IPv6 has nothing there"))
def test_a_published_port_is_closed_over_ipv6(stage: AttackedCell) -> None:
    """On a host that has it, and forwards it."""
    stage.host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    for node, interface, address in ((stage.host, "eth0", HOST6), (stage.outside, "uplink1", OUTSIDE6)):
        node.run("ip", "-6", "addr", "replace", f"{address}/64", "dev", interface, "nodad")
    with closing(run_in(stage.host.pin, lambda: socket.create_server((HOST6, HOSTS_OWN), family=socket.AF_INET6))):
        assert over_ipv6(stage.outside, socket.SOCK_STREAM, HOSTS_OWN) is Connected, "there is a way"
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        withstood(it=over_ipv6(stage.outside, kind, PORT) is Refused)


@pytest.mark.parametrize("source", [GOOD, "10.77.0.254"])
@stopped_by(*FORGED_INSIDE, DENIED)
def test_a_container_with_an_address_of_the_outside_delivers_nothing(stage: AttackedCell, source: str) -> None:
    forged = IP(src=source, dst=str(stage.host.address)) / UDP(sport=5000, dport=PORT) / b"forged"
    withstood(it=not carrying(b"forged", stage.captured(forged)))


@pytest.mark.parametrize("source", ["web", "nothing"])
@stopped_by(*FORGED_OUTSIDE)
def test_an_outsider_with_an_address_of_the_overlay_delivers_nothing(stage: AttackedCell, source: str) -> None:
    address = str(stage.web.address) if source == "web" else "10.255.1.200"
    wire = Wire(stage.outside, "uplink1", mac=mac_of(stage.outside, "uplink1"), to=mac_of(stage.host, "eth0"))
    with capture(stage.api) as listening:
        wire.send(IP(src=address, dst=str(stage.host.address)) / UDP(sport=5000, dport=PORT) / b"forged")
        found = listening.packets(until=stage.wire.canary(stage.api))
    withstood(it=not carrying(b"forged", found))


@pytest.mark.parametrize("port", [PORT, HOSTS_OWN], ids=["published", "the host's own"])
@stopped_by(Without("nat", "CELLNET-POSTROUTING", "-p udp -j MASQUERADE"))
def test_a_container_takes_no_datagram_that_is_meant_for_a_port_of_the_host(stage: AttackedCell, port: int) -> None:
    """What it sends from that port itself would make the other's datagrams the answers."""
    program = stage.host.datagrams(HOSTS_OWN)
    good = caller(stage.outside, GOOD)
    with good.datagrams(5000) as far, stage.mallory.datagrams(port) as near, program:
        near.sendto(b"first", (GOOD, 5000))
        assert far.recvfrom(100)[0] == b"first"
        far.sendto(b"meant for another", (str(stage.host.address), port))
        receiver = far if port == PORT else program
        receiver.settimeout(2.0)
        with suppress(TimeoutError):
            assert receiver.recv(100)
            return
        near.settimeout(2.0)
        withstood(it=near.recv(100) != b"meant for another")


@stopped_by(Without("nat", "CELLNET-POSTROUTING", "-p tcp -j MASQUERADE"))
def test_a_container_takes_no_call_that_is_meant_for_a_published_port(stage: AttackedCell) -> None:
    """It calls the caller first, which answers nothing to strangers, as a host behind a firewall does."""
    drop = ("INPUT", "-d", GOOD, "-p", "tcp", "--dport", "5001", "--syn", "-j", "DROP")
    stage.outside.run("iptables-nft", "-A", *drop)
    stage.extra.append(lambda: stage.outside.run("iptables-nft", "-D", *drop))
    stage.wire.send(IP(src=str(stage.mallory.address), dst=GOOD) / TCP(sport=PORT, dport=5001, flags="S", seq=7))
    stage.settle()
    found = caller(stage.outside, GOOD).connect(stage.host, PORT, source_port=5001)
    withstood(it=found is Connected, what=f"{found}")
