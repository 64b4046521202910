"""A container that speaks with an address that is not its own."""

import pytest
from scapy.layers.inet import IP, TCP, UDP

from tests.testlib.attacks.attacked_cell import AttackedCell, captured_segment, conntrack_state
from tests.testlib.attacks.attacker import carrying, withstood
from tests.testlib.connections import is_alive
from tests.testlib.mutation import Kernel, Setting, Without, stopped_by
from tests.testlib.node import Connected, pair

SPOOFING = (
    Without("raw", "CELLNET-PREROUTING", "-i cnet+ -g CELLNET-FORGED"),
    Without("raw", "CELLNET-PREROUTING", "rpfilter"),
    Setting("net/ipv4/conf/{mallory}/rp_filter", 0),
)
UNTAGGED = (Without("filter", "{api_chain}", "CELLNET-REJECT"),)


def _spoofed(stage: AttackedCell, source: str) -> bool:
    forged = IP(src=source, dst=str(stage.api.address)) / UDP(sport=5000, dport=8080) / b"forged"
    return bool(carrying(b"forged", stage.captured(forged)))


@stopped_by(*SPOOFING)
def test_another_containers_address_delivers_nothing(stage: AttackedCell) -> None:
    assert stage.web.udp(stage.api, 8080) is Connected
    withstood(it=not _spoofed(stage, str(stage.web.address)))


@pytest.mark.parametrize(
    "source", ["10.255.1.200", "10.255.1.255", "10.255.2.9", "10.77.0.254", "8.8.8.8", "169.254.0.1", "240.0.0.1"]
)
@stopped_by(*SPOOFING, *UNTAGGED)
def test_an_address_without_a_container_delivers_nothing(stage: AttackedCell, source: str) -> None:
    withstood(it=not _spoofed(stage, source))


@stopped_by(*SPOOFING, *UNTAGGED, Setting("net/ipv4/conf/{mallory}/accept_local", 1))
def test_the_hosts_address_delivers_nothing(stage: AttackedCell) -> None:
    assert stage.host.udp(stage.api, 8080) is Connected
    withstood(it=not _spoofed(stage, str(stage.host.address)))


@pytest.mark.parametrize("source", ["127.0.0.1", "255.255.255.255", "0.0.0.0", "224.0.0.1"])
@stopped_by(*SPOOFING, *UNTAGGED, Kernel("drops martian sources by itself"))
def test_an_address_that_cannot_be_a_source_delivers_nothing(stage: AttackedCell, source: str) -> None:
    withstood(it=not _spoofed(stage, source))


@stopped_by(*SPOOFING)
def test_forged_data_does_not_reach_an_established_connection(stage: AttackedCell) -> None:
    client, server = pair(stage.web, stage.api, 8081)
    last = captured_segment(client, b"own words", seen_at=stage.api)
    assert server.recv(100) == b"own words"
    following = TCP(
        sport=last[TCP].sport, dport=last[TCP].dport, seq=last[TCP].seq + 9, ack=last[TCP].ack, flags="PA", window=500
    )
    stage.captured(IP(src=last.src, dst=last.dst) / following / b"forged")
    client.sendall(b"own words")
    withstood(it=server.recv(100) == b"own words")
    assert is_alive(client, server)


@pytest.mark.parametrize("towards", ["server", "client"])
@stopped_by(Without("raw", "CELLNET-PREROUTING", "rpfilter"))
def test_a_forged_reset_closes_neither_connection_nor_conntrack_entry(stage: AttackedCell, towards: str) -> None:
    client, server = pair(stage.web, stage.api, 8081)
    last = captured_segment(client, b"own words", seen_at=stage.api)[TCP]
    assert server.recv(100) == b"own words"
    web, api = str(stage.web.address), str(stage.api.address)
    reset = {
        "server": IP(src=web, dst=api) / TCP(sport=last.sport, dport=last.dport, seq=last.seq + 9, flags="R"),
        "client": IP(src=api, dst=web) / TCP(sport=last.dport, dport=last.sport, seq=last.ack, flags="R"),
    }
    stage.captured(reset[towards])
    withstood(it=conntrack_state(stage, client) == "ESTABLISHED", what=f"the entry is {conntrack_state(stage, client)}")
    assert is_alive(client, server)


@stopped_by(*SPOOFING)
def test_a_forged_answer_does_not_reach_anothers_datagram_flow(stage: AttackedCell) -> None:
    flow = stage.web.datagrams()
    flow.connect((str(stage.api.address), 8080))
    flow.send(b"question")
    assert flow.recv(100) == b"question"
    forged = IP(src=str(stage.api.address), dst=str(stage.web.address)) / UDP(sport=8080, dport=flow.getsockname()[1])
    stage.captured(forged / b"forged", at=stage.web)
    flow.send(b"question")
    withstood(it=flow.recv(100) == b"question")
