"""A host on the cell's own network routes the overlay through the cell, forges containers and the cell itself."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet

from tests.testlib.attacks.attacked_cell import AttackedCell, captured_segment, conntrack_state
from tests.testlib.attacks.attacker import Wire, capture, captured, carrying, mac_of, withstood
from tests.testlib.connections import is_alive
from tests.testlib.mutation import Setting, Without, stopped_by
from tests.testlib.node import Connected, Refused, pair

UPLINK = "uplink1"
PUBLISHED = 7001  # udp, at the cell: the canary's port at api
STRAIGHT_IN = Without("filter", "CELLNET-NEW", "-j CELLNET-REJECT")
PATH = Without("raw", "CELLNET-PREROUTING", "rpfilter")
# the namespace's default is 0; the machine's may be another
LOOSE = (Setting("net/ipv4/conf/all/rp_filter", 0), Setting("net/ipv4/conf/eth0/rp_filter", 0))


@pytest.fixture
def outsider(stage: AttackedCell) -> Iterator[Wire]:
    """A wire at the other end of the cell's uplink, whose canary comes in by a published port."""
    outside, host = stage.outside, stage.host
    outside.run("ip", "route", "replace", "10.255.0.0/16", "via", str(host.address))
    publish = ("-p", "udp", "-d", str(host.address), "--dport", str(PUBLISHED), "-j", "DNAT")
    with stage.rule("nat", "PREROUTING", *publish, "--to-destination", f"{stage.api.address}:7000"):
        yield Wire(outside, UPLINK, mac=mac_of(outside, UPLINK), to=mac_of(host, "eth0"))


def _heard(stage: AttackedCell, outsider: Wire, *packets: Packet) -> list[Packet]:
    return captured(outsider, packets, at=stage.api, port=PUBLISHED, canary_to=stage.host)


@stopped_by(STRAIGHT_IN)
def test_the_overlay_is_not_routed_from_outside(stage: AttackedCell, outsider: Wire) -> None:
    withstood(it=stage.outside.connect(stage.api, 8080) is Refused)
    withstood(it=stage.outside.connect(stage.api, 61443) is Refused)
    withstood(it=stage.outside.udp(stage.api, 8080) is Refused)
    assert stage.web.connect(stage.api, 8080) is Connected


@stopped_by(Without("filter", "CELLNET-FORWARD", "-j CELLNET-REJECT"))
def test_an_address_without_container_is_not_bounced_back(stage: AttackedCell, outsider: Wire) -> None:
    with capture(stage.outside, UPLINK) as listening:
        _heard(stage, outsider, IP(src="10.77.0.254", dst="10.255.1.99") / UDP(sport=5, dport=6) / b"bounce")
        withstood(it=not [each for each in listening.pending() if UDP in each and each[UDP].dport == 6])
    withstood(it=stage.outside.connect("10.255.1.99", 8080) is Refused)


@stopped_by(PATH, *LOOSE)
def test_a_containers_address_delivers_nothing_from_outside(stage: AttackedCell, outsider: Wire) -> None:
    web, api = str(stage.web.address), str(stage.api.address)
    datagram = IP(src=web, dst=api) / UDP(sport=5, dport=8080) / b"forged"
    withstood(it=not carrying(b"forged", _heard(stage, outsider, datagram)))
    client, server = pair(stage.web, stage.api, 8081)
    last = captured_segment(client, b"own words", seen_at=stage.api)
    assert server.recv(100) == b"own words"
    following = TCP(
        sport=last[TCP].sport, dport=last[TCP].dport, seq=last[TCP].seq + 9, ack=last[TCP].ack, flags="PA", window=500
    )
    _heard(stage, outsider, IP(src=web, dst=api) / following / b"forged")
    client.sendall(b"own words")
    withstood(it=server.recv(100) == b"own words")


@pytest.mark.parametrize("claims", ["a container", "the cell"])
@stopped_by(PATH)
def test_a_forged_reset_from_outside_closes_no_conntrack_entry(stage: AttackedCell, outsider: Wire, claims: str) -> None:
    caller = stage.web if claims == "a container" else stage.host
    client, server = pair(caller, stage.api, 8081)
    last = captured_segment(client, b"own words", seen_at=stage.api)
    assert server.recv(100) == b"own words"
    reset = TCP(sport=last[TCP].sport, dport=last[TCP].dport, seq=last[TCP].seq + 9, flags="R")
    _heard(stage, outsider, IP(src=last.src, dst=last.dst) / reset)
    withstood(it=conntrack_state(stage, client) == "ESTABLISHED", what=f"the entry is {conntrack_state(stage, client)}")
    assert is_alive(client, server)


@stopped_by(Without("filter", "CELLNET-ERRORS", "-j CELLNET-REJECT"))
def test_an_error_from_outside_about_a_flow_inside_is_refused(stage: AttackedCell, outsider: Wire) -> None:
    flow = stage.web.datagrams()
    flow.connect((str(stage.api.address), 8080))
    flow.send(b"question")
    assert flow.recv(100) == b"question"
    answer = IP(src=str(stage.api.address), dst=str(stage.web.address)) / UDP(sport=8080, dport=flow.getsockname()[1])
    error = IP(src="10.77.0.254", dst=str(stage.api.address)) / ICMP(type=3, code=3) / answer / b"question"
    withstood(it=not any(ICMP in each for each in _heard(stage, outsider, error)))
