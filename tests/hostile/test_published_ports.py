"""Published ports, other engines' guests, and the way out, which is closed: all that others on the host do beside us."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from tests.testlib.attacks.attacked_cell import AttackedCell
from tests.testlib.attacks.attacker import Wire, capture, carrying, mac_of, withstood
from tests.testlib.mutation import Setting, Without, stopped_by
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused

PORT = 7080
BRIDGE, GATEWAY, GUEST = "docker7", "172.30.0.1", "172.30.0.2"
DENIED = Without("filter", "{api_chain}", "CELLNET-REJECT")
EGRESS = Without("filter", "CELLNET-EGRESS", "CELLNET-REJECT")
STRAIGHT_IN = Without("filter", "CELLNET-NEW", "-j CELLNET-REJECT")


@contextmanager
def _published(stage: AttackedCell, target: str, *, to: str | None = None) -> Iterator[None]:
    """Another program's rules publish a port of the host's, with the detour that lets a container reach its own."""
    where = ("-d", to) if to else ()
    for protocol in ("tcp", "udp"):
        rule = ("-p", protocol, *where, "--dport", str(PORT), "-j", "DNAT", "--to-destination", target)
        stage.iptables("-t", "nat", "-A", "PREROUTING", *rule)
        stage.extra.append(partial(stage.iptables, "-t", "nat", "-D", "PREROUTING", *rule))
    yield


@pytest.fixture
def guest(stage: AttackedCell) -> Iterator[Node]:
    """A container of another engine on the same host, behind a bridge."""
    place = Netns("guest")
    host = stage.host
    host.run("ip", "link", "add", BRIDGE, "type", "bridge")
    host.run("ip", "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    host.run("ip", "link", "add", "vethguest", "type", "veth", "peer", "name", "eth0", "netns", str(place.path))
    host.run("ip", "link", "set", "vethguest", "master", BRIDGE, "up")
    host.run("ip", "link", "set", BRIDGE, "up")
    place.run("ip", "addr", "add", f"{GUEST}/24", "dev", "eth0")
    place.run("ip", "link", "set", "eth0", "up")
    place.run("ip", "route", "add", "default", "via", GATEWAY)
    made = Node(place.path, address=stage.host.address)
    yield made
    made.close()
    host.run("ip", "link", "del", "vethguest")  # at once: with its namespace it would go some time later
    host.run("ip", "link", "del", BRIDGE)
    place.close()


def test_a_published_port_reaches_its_container_from_outside(stage: AttackedCell) -> None:
    with _published(stage, f"{stage.api.address}:8080", to=str(stage.host.address)):
        assert stage.outside.connect(stage.host, PORT) is Connected
        assert stage.outside.udp(stage.host, PORT) is Connected
        assert stage.outside.get(stage.host, PORT) == f"hello {stage.outside.address}\n"
        assert stage.outside.connect(stage.host, PORT + 1) is Refused


@pytest.mark.parametrize("dialled", ["the host's address", "any address"])
@stopped_by(DENIED)
def test_no_container_gets_round_a_policy_by_a_published_port(stage: AttackedCell, dialled: str) -> None:
    """Also where a rule forgets to name the host's address."""
    to = str(stage.host.address) if dialled == "the host's address" else None
    target = stage.host if to else stage.outside
    with _published(stage, f"{stage.api.address}:8080", to=to):
        assert stage.web.connect(target, PORT) is Connected
        assert stage.web.udp(target, PORT) is Connected
        withstood(it=stage.mallory.connect(target, PORT) is Refused)
        withstood(it=stage.mallory.udp(target, PORT) is Refused)


def test_the_cell_reaches_its_own_containers_and_nothing_else_does(stage: AttackedCell, guest: Node) -> None:
    assert stage.host.connect(stage.api, 8080) is stage.host.udp(stage.api, 8080) is Connected
    assert stage.host.connect(stage.mallory, 8080) is Connected


@stopped_by(STRAIGHT_IN)
def test_a_guest_of_another_engine_reaches_no_container(stage: AttackedCell, guest: Node) -> None:
    assert guest.connect(GATEWAY, 9) is Refused  # the host itself has no rule against it
    withstood(it=guest.connect(stage.api, 8080) is Refused)
    withstood(it=guest.udp(stage.api, 8080) is Refused)


@stopped_by(
    Without("raw", "CELLNET-PREROUTING", "rpfilter"),
    Setting("net/ipv4/conf/all/rp_filter", 0),
    Setting("net/ipv4/conf/default/rp_filter", 0),
    STRAIGHT_IN,
)
def test_a_guest_of_another_engine_forges_no_container(stage: AttackedCell, guest: Node) -> None:
    wire = Wire(guest, mac=mac_of(guest, "eth0"), to=mac_of(stage.host, BRIDGE))
    with capture(stage.api) as listening:
        wire.send(IP(src=str(stage.web.address), dst=str(stage.api.address)) / UDP(sport=9, dport=8080) / b"forged")
        found = listening.packets(until=stage.wire.canary(stage.api))
    withstood(it=not carrying(b"forged", found))


@stopped_by(EGRESS)
def test_a_guest_of_another_engine_is_not_reached_either(stage: AttackedCell, guest: Node) -> None:
    """Neither by its address nor by its published port."""
    guest.listen(8080)
    assert stage.host.connect(GUEST, 8080) is Connected
    withstood(it=stage.mallory.connect(GUEST, 8080) is Refused)
    with _published(stage, f"{GUEST}:8080", to=str(stage.host.address)):
        assert stage.outside.connect(stage.host, PORT) is Connected
        withstood(it=stage.mallory.connect(stage.host, PORT) is Refused)


@stopped_by(EGRESS, Without("filter", "CELLNET-NEW", "! --tcp-flags"), Without("filter", "CELLNET-NEW", "INVALID"))
def test_nothing_leaves_the_cell(stage: AttackedCell) -> None:
    target = str(stage.outside.address)
    source: dict[str, Any] = {"src": str(stage.mallory.address), "dst": target}
    with capture(stage.outside, "uplink1") as listening:
        stage.wire.send(
            IP(**source) / UDP(sport=9, dport=53) / b"leaves",
            IP(**source) / ICMP() / b"leaves",
            IP(**source, proto=47) / b"leaves",
            *(
                IP(**source) / TCP(sport=40_000 + number, dport=80, flags=flags) / b"leaves"
                for number, flags in enumerate(FLAGS)
            ),
        )
        stage.settle()
        found = [frame[IP] for frame in listening.pending() if IP in frame and b"leaves" in bytes(frame)]
    withstood(it=not [each for each in found if ICMP not in each or each[ICMP].type == 8], what=f"{found}")
    withstood(it=stage.mallory.connect(target, 9001) is Refused)


FLAGS = ("S", "A", "FA", "R", "SF", "")
