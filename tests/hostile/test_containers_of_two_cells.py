"""Containers of different cells: one that speaks as another, and two that want to talk without a policy."""

import itertools

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet

from tests.testlib.attacks.attacked_cell import captured_segment
from tests.testlib.attacks.attacked_hosts import SERVICE, UDP_SERVICE, AttackedHosts
from tests.testlib.attacks.attacker import captured, carrying, withstood
from tests.testlib.connections import is_alive
from tests.testlib.mutation import At, Kernel, Setting, With, Without, stopped_by
from tests.testlib.node import Refused, TimedOut, outcome_of, pair

_ports = itertools.count(20_000, 2)  # conntrack remembers those that were used
ERRORS = Without("filter", "CELLNET-ERRORS", "--ctdir REPLY")
ANSWERS = Without("filter", "CELLNET-FORWARD", "--ctdir REPLY")
SPOOFING = (
    Without("raw", "CELLNET-PREROUTING", "-i cnet+ -g CELLNET-FORGED"),
    Without("raw", "CELLNET-PREROUTING", "rpfilter"),
    Setting("net/ipv4/conf/{mallory}/rp_filter", 0),
)
ORIGIN = At("cell 2", Without("mangle", "CELLNET-PEERS", "-m bpf"))
DENIED = At("cell 2", Without("filter", "{api_chain}", "CELLNET-REJECT"))
OTHERS = Without("raw", "CELLNET-PREROUTING", "-p icmp -m bpf")
TO_HOST = At("cell 2", Without("filter", "CELLNET-INPUT", "-i cellnet0"))
SILENCE = 0.1  # seconds after which nothing is taken to come


def _error(cells: AttackedHosts, sender: str, about: Packet, quoted: bytes) -> Packet:
    """That what it has been sent has found no socket, with words of its own where the packet should be quoted."""
    packet: Packet = IP(src=str(cells[sender].address), dst=about[IP].src) / ICMP(type=3, code=3) / about[IP] / quoted
    return packet


@pytest.mark.parametrize("kind", [3, 11, 12])
@stopped_by(
    Without("filter", "CELLNET-ERRORS", "--ctdir REPLY"), At("cell 2", Without("filter", "CELLNET-ERRORS", "--ctdir REPLY"))
)
def test_two_that_have_both_called_in_vain_exchange_no_words_in_errors(cells: AttackedHosts, kind: int) -> None:
    calls = {"mallory": cells.datagram("mallory", "eve", b"call"), "eve": cells.datagram("eve", "mallory", b"call")}
    calls["eve"][UDP].sport, calls["eve"][UDP].dport = 8080, 5000  # the same flow, if it were one
    for name, call in calls.items():
        captured(cells.wire(name), [call], at=cells["api" if name == "mallory" else "web"])
    for sender, other in (("mallory", "eve"), ("eve", "mallory")):
        about = calls[other].copy()
        about[UDP].remove_payload()
        error = _error(cells, sender, about, b"words of a secret" * 8)
        error[ICMP].type = kind
        found = captured(cells.wire(sender), [error], at=cells[other])
        withstood(it=not any(b"secret" in bytes(each) for each in found), what=f"{other} hears {sender}")


def test_an_error_about_a_flow_that_is_allowed_arrives_from_both_ends(cells: AttackedHosts) -> None:
    """No socket is at the server's port; then none at the client's any longer."""
    assert cells["web"].udp(cells["api"], 8080) is Refused
    with cells["api"].datagrams(8080) as server:
        with cells["web"].datagrams() as client:
            client.sendto(b"question", (str(cells["api"].address), 8080))
            server.connect(server.recvfrom(100)[1])
        assert outcome_of(lambda: (server.send(b"answer"), server.recv(100))) is Refused


@stopped_by(ANSWERS, At("cell 2", ANSWERS))
def test_two_that_have_both_called_in_vain_exchange_no_datagrams(cells: AttackedHosts) -> None:
    """By ports of their own each time, again and again: none of them becomes an answer."""
    calls = {"mallory": cells.datagram("mallory", "eve", b"secret"), "eve": cells.datagram("eve", "mallory", b"secret")}
    calls["mallory"][UDP].sport, calls["mallory"][UDP].dport = calls["eve"][UDP].dport, calls["eve"][UDP].sport = 5001, 8081
    for _ in range(3):
        for name, other in (("mallory", "eve"), ("eve", "mallory")):
            found = captured(cells.wire(name), [calls[name]], at=cells[other])
            withstood(it=not carrying(b"secret", found), what=f"{other} hears {name}")


@pytest.mark.parametrize("flags", ["S", "SA", "A", "PA", "FA", "R", "RA", ""])
@stopped_by(
    *(each for rule in (ANSWERS, Without("filter", "CELLNET-NEW", "INVALID"), Without("filter", "CELLNET-NEW", "! --tcp-flags"))
      for each in (rule, At("cell 2", rule))),
    Without("filter", "{mallory_chain}", "CELLNET-REJECT"),
    At("cell 2", Without("filter", "{eve_chain}", "CELLNET-REJECT")),
)  # fmt: skip
def test_no_odd_segment_passes_between_two_that_have_both_called_in_vain(cells: AttackedHosts, flags: str) -> None:
    port = next(_ports)
    mallory, eve = str(cells["mallory"].address), str(cells["eve"].address)
    there = IP(src=mallory, dst=eve) / TCP(sport=port, dport=port + 1, seq=100)
    back = IP(src=eve, dst=mallory) / TCP(sport=port + 1, dport=port, seq=100)
    for wire, packet, other in ((cells.wire("mallory"), there, "api"), (cells.wire("eve"), back, "web")):
        packet[TCP].flags = "S"
        captured(wire, [packet], at=cells[other])
    for wire, packet, other in ((cells.wire("mallory"), there, "eve"), (cells.wire("eve"), back, "mallory")):
        packet[TCP].flags, packet[TCP].ack, packet[TCP].seq = flags, 101, 101
        found = captured(wire, [packet / b"secret"], at=cells[other])
        withstood(it=not any(b"secret" in bytes(each[TCP].payload) for each in found if TCP in each))


# one that speaks as another


@pytest.mark.parametrize("source", ["web", "near", "api", "eve", "10.255.2.99", "10.77.0.1"])
@stopped_by(
    *SPOOFING,
    ORIGIN,
    DENIED,
    At("cell 2", Without("raw", "CELLNET-PREROUTING", "rpfilter")),
    At("cell 2", Setting("net/ipv4/conf/cellnet0/rp_filter", 0)),
    Setting("net/ipv4/conf/{mallory}/accept_local", 1),
)
def test_a_container_has_no_address_but_its_own_towards_another_cell(cells: AttackedHosts, source: str) -> None:
    found = captured(cells.wire("mallory"), [cells.datagram(source, "api")], at=cells["api"])
    withstood(it=not carrying(b"forged", found))


@stopped_by(*SPOOFING)
def test_a_neighbour_does_not_get_into_a_connection_to_another_cell(cells: AttackedHosts) -> None:
    client, server = pair(cells["web"], cells["api"], 8080)
    last = captured_segment(client, b"own words", seen_at=cells["api"])
    assert server.recv(100) == b"own words"
    following = TCP(sport=last[TCP].sport, dport=8080, seq=last[TCP].seq + 9, ack=last[TCP].ack, flags="PA", window=500)
    captured(cells.wire("mallory"), [IP(src=last.src, dst=last.dst) / following / b"forged"], at=cells["api"])
    client.sendall(b"own words")
    withstood(it=server.recv(100) == b"own words")
    assert is_alive(client, server)


@pytest.mark.parametrize("by", ["mallory", "eve"])
@stopped_by(OTHERS, At("cell 2", OTHERS))
def test_no_neighbour_of_either_end_can_send_an_error_about_a_flow(cells: AttackedHosts, by: str) -> None:
    flow, server = cells["web"].datagrams(), cells["api"].datagrams(8080)
    flow.connect((str(cells["api"].address), 8080))
    flow.send(b"question")
    server.connect(server.recvfrom(100)[1])
    server.send(b"answer")
    assert flow.recv(100) == b"answer"
    question = cells.datagram("web", "api", b"question")
    question[UDP].sport = flow.getsockname()[1]
    answer = cells.datagram("api", "web", b"answer")
    answer[UDP].sport, answer[UDP].dport = 8080, flow.getsockname()[1]
    about, victim = (answer, "api") if by == "mallory" else (question, "web")
    for code in (3, 4):
        error = IP(src=str(cells[by].address), dst=about.src) / ICMP(type=3, code=code, nexthopmtu=600) / about
        found = captured(cells.wire(by), [error], at=cells[victim])
        withstood(it=not any(ICMP in each for each in found))


# cells


@stopped_by(TO_HOST)
def test_a_container_reaches_no_service_of_another_cell_through_the_tunnel(cells: AttackedHosts) -> None:
    cell, to = cells.cell(2), cells.end_of(2)
    listeners = [cell.listen(port) for port in (SERVICE, 2379, 15008, 61443)]
    for each in listeners:
        withstood(it=cells["mallory"].connect(to, each.getsockname()[1]) is Refused)
    with cell.datagrams(UDP_SERVICE) as listening:
        withstood(it=cells["mallory"].udp(to, UDP_SERVICE) is Refused)
        listening.settimeout(SILENCE)
        withstood(it=outcome_of(lambda: listening.recv(1)) is TimedOut)


@stopped_by(TO_HOST, With("filter", "CELLNET-NEW", "-i cnet+ -o cellnet0 -j ACCEPT"))
def test_a_container_gets_no_echo_from_another_cell(cells: AttackedHosts) -> None:
    echo = IP(src=str(cells["mallory"].address), dst=cells.end_of(2)) / ICMP(type=8, id=7, seq=1) / b"echo"
    found = cells.frames(lambda: captured(cells.wire("mallory"), [echo], at=cells["api"]), at="mallory", origin=2)
    withstood(it=not [each for each in found if ICMP in each and each[ICMP].type == 0])


@pytest.mark.parametrize("mark", [1, 0xFFFF, 0x400001])
@stopped_by(Kernel("forgets marks at the border of a namespace"))
def test_a_mark_set_inside_is_no_tag_on_another_cell(cells: AttackedHosts, mark: int) -> None:
    mallory = cells["mallory"]
    mallory.run("iptables-nft", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-mark", str(mark))
    cells.extra.append(lambda: mallory.run("iptables-nft", "-t", "mangle", "-F"))
    with cells["api"].listen(8080):
        withstood(it=mallory.connect(cells["api"], 8080) is Refused)
    withstood(it=mallory.udp(cells["api"], 8080) is Refused)
