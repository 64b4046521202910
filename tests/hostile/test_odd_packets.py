"""Packets that no honest program sends: fragments, odd flags, IP options, marks; and helpers that would open more ports."""

import itertools
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_LSRR, fragment
from scapy.packet import Packet, Raw

from dataplane.tables import ORIGINAL_SOURCE_MARK
from host.namespace import run_in
from tests.testlib.attacks.attacked_cell import AttackedCell
from tests.testlib.attacks.attacker import capture, captured, carrying, withstood
from tests.testlib.instance import Instance
from tests.testlib.mutation import Kernel, Setting, With, Without, stopped_by
from tests.testlib.node import Connected, Node, Outcome, Refused, outcome_of, pair

DENIED = Without("filter", "{api_chain}", "CELLNET-REJECT")
INVALID = Without("filter", "CELLNET-NEW", "INVALID")
NOT_SYN = Without("filter", "CELLNET-NEW", "! --tcp-flags")
TAGGING = Without("mangle", "CELLNET-FORWARD", "cellnet-tags")
HELPED = 2121
_ports = itertools.count(20_000)  # conntrack remembers those that were used


def _to_api(stage: AttackedCell, source: Node, **options: Any) -> Packet:
    return IP(src=str(source.address), dst=str(stage.api.address), **options)


def _of_mallory(stage: AttackedCell, packets: list[Packet], port: int = 8080) -> list[Packet]:
    """What got through to a port of api, whole or in pieces; not what its kernel answers or says of it."""
    mine = [each for each in packets if each.src == str(stage.mallory.address)]
    return [each for each in mine if each.frag or any(kind in each and each[kind].dport == port for kind in (TCP, UDP))]


@pytest.mark.parametrize("size", [8, 16, 800])
@stopped_by(DENIED)
def test_a_datagram_in_fragments_is_judged_as_a_whole(stage: AttackedCell, size: int) -> None:
    big = _to_api(stage, stage.mallory, id=7) / UDP(sport=9, dport=8080) / (b"x" * 2 * size)
    withstood(it=not _of_mallory(stage, stage.captured(*fragment(big, fragsize=size))))
    assert _echoed(stage.web, stage.api, 4_000)


@stopped_by(DENIED)
def test_a_syn_in_fragments_is_judged_as_a_whole(stage: AttackedCell) -> None:
    syn = _to_api(stage, stage.mallory, id=8) / TCP(sport=9, dport=8080, flags="S", options=[("MSS", 1400), ("NOP", None)])
    withstood(it=not _of_mallory(stage, stage.captured(*fragment(syn, fragsize=8))))


@stopped_by(Kernel("puts fragments together before any rule, and sends on what the rules have seen"))
def test_overlapping_fragments_do_not_change_a_port_that_was_judged(stage: AttackedCell) -> None:
    """The second one would put another port over that of the first, which is allowed."""
    allowed = bytes(UDP(sport=9, dport=7000, len=24, chksum=0) / (b"x" * 16))
    other = bytes(UDP(sport=9, dport=8080, len=24, chksum=0) / (b"x" * 16))
    head = _to_api(stage, stage.mallory, id=9, proto=17)
    pieces = [head.copy() / Raw(allowed[:16]), head.copy() / Raw(other[:16]), head.copy() / Raw(allowed[16:])]
    pieces[0].flags = pieces[1].flags = "MF"
    pieces[2].frag = 2
    withstood(it=not [each for each in stage.captured(*pieces) if UDP in each and each[UDP].dport == 8080])


@pytest.mark.parametrize("flags", ["", "F", "A", "PA", "SA", "SF", "SR", "SFR", "FPU", "R", "RA", "SFRPAUEC"])
@stopped_by(DENIED, INVALID, NOT_SYN)
def test_odd_flags_open_nothing(stage: AttackedCell, flags: str) -> None:
    odd = TCP(sport=next(_ports), dport=8080, flags=flags, seq=1000, ack=1000) / b"data"
    withstood(it=not _of_mallory(stage, stage.captured(_to_api(stage, stage.mallory) / odd)))


@pytest.mark.parametrize("flags", ["SF", "SR", "A", "PA", "SA"])
@stopped_by(DENIED, INVALID, NOT_SYN)
def test_odd_flags_open_nothing_for_the_rightful_caller_either(stage: AttackedCell, flags: str) -> None:
    odd = TCP(sport=next(_ports), dport=8080, flags=flags, seq=1000, ack=1000) / b"data"
    found = captured(stage.wire_of(stage.web), [_to_api(stage, stage.web) / odd], at=stage.api)
    withstood(it=not [each for each in found if TCP in each and each[TCP].dport == 8080])
    assert stage.web.connect(stage.api, 8080) is Connected


@stopped_by(
    Setting("net/ipv4/conf/all/accept_source_route", 1),
    Setting("net/ipv4/conf/{mallory}/accept_source_route", 1),
    Without("filter", "CELLNET-TO", "-j CELLNET-REJECT"),
)
def test_a_source_route_through_the_host_leads_nowhere(stage: AttackedCell) -> None:
    routed = IP(
        src=str(stage.mallory.address), dst=str(stage.host.address), options=[IPOption_LSRR(routers=[str(stage.api.address)])]
    )
    withstood(it=not _of_mallory(stage, stage.captured(routed / UDP(sport=9, dport=8080, chksum=0) / b"routed")))


@stopped_by(Kernel("forwards nothing that has no time left"))
def test_a_packet_with_one_hop_left_is_not_delivered(stage: AttackedCell) -> None:
    short = _to_api(stage, stage.mallory, ttl=1) / UDP(sport=9, dport=7000) / b"short"
    withstood(it=not carrying(b"short", stage.captured(short)))


@pytest.mark.parametrize("mark", ["web's tag", "0xffff"])
@stopped_by(Kernel("forgets marks at the border of a namespace"))
def test_a_mark_set_inside_is_no_tag(stage: AttackedCell, mark: str) -> None:
    number = _tag(stage, stage.web) if mark == "web's tag" else int(mark, 0)
    with _all_marked(stage.mallory, number):
        withstood(it=stage.mallory.connect(stage.api, 8080) is Refused)
        withstood(it=stage.mallory.udp(stage.api, 8080) is Refused)
    withstood(it=_marked(stage.mallory, stage.api, number) is Refused)


@stopped_by(Kernel("keeps a packet with the mark of original source in its own namespace"))
def test_the_mark_of_original_source_leads_nowhere(stage: AttackedCell) -> None:
    with capture(stage.api) as listening, _all_marked(stage.mallory, ORIGINAL_SOURCE_MARK):
        stage.mallory.udp(stage.api, 8080, seconds=0.2)
        found = listening.packets(until=stage.wire.canary(stage.api))
    withstood(it=not [each for each in found if UDP in each and each[UDP].dport == 8080])


@stopped_by(TAGGING)
def test_a_mark_that_another_program_has_set_before_is_no_tag(stage: AttackedCell) -> None:
    """As portmap does in nat PREROUTING, with any number that the operator has chosen."""
    tag = _tag(stage, stage.web)
    with stage.rule("mangle", "PREROUTING", "-i", stage.mallory.interface, "-j", "MARK", "--set-mark", str(tag)):
        withstood(it=stage.mallory.connect(stage.api, 8080) is Refused)
        withstood(it=stage.mallory.udp(stage.api, 8080) is Refused)


@pytest.mark.parametrize("direction", ["passive", "active"])
@stopped_by(
    With("filter", "CELLNET-FORWARD", "-i cnet+ -m conntrack --ctstate RELATED -j ACCEPT"),
)
def test_a_conntrack_helper_of_the_hosts_opens_no_port(stage: AttackedCell, direction: str) -> None:
    """An FTP helper expects another connection when it reads of one in an allowed one."""
    helper = ("-p", "tcp", "--dport", str(HELPED), "-j", "CT", "--helper", "ftp")
    with stage.rule("raw", "PREROUTING", *helper):
        client, server = pair(stage.web, stage.api, HELPED)
        caller, callee = (stage.web, stage.api) if direction == "passive" else (stage.api, stage.web)
        comma = f"{callee.address},39,15".replace(".", ",")  # port 9999
        for end, other in ((server, client), (client, server)):  # the helper reads on only where a line has ended
            end.sendall(b"220 hello\r\n")
            assert other.recv(100)
        if direction == "passive":
            client.sendall(b"PASV\r\n")
            assert server.recv(100)
            server.sendall(f"227 Entering Passive Mode ({comma}).\r\n".encode())
            assert client.recv(100)
        else:
            client.sendall(f"PORT {comma}\r\n".encode())
            assert server.recv(100)
        callee.listen(9999)
        withstood(it=caller.connect(callee, 9999) is Refused)


@stopped_by(Without("filter", "{web_chain}", "CELLNET-REJECT"))
def test_an_answerer_does_not_call_back_by_the_same_ports(stage: AttackedCell) -> None:
    client, server = pair(stage.web, stage.api, 8081)
    port = client.getsockname()[1]
    client.close()
    assert server.recv(1) == b""
    server.close()
    syn = IP(src=str(stage.api.address), dst=str(stage.web.address)) / TCP(sport=8081, dport=port, flags="S", seq=2**31)
    found = captured(stage.wire_of(stage.api), [syn], at=stage.web, canary_to=stage.web)
    withstood(it=not [each for each in found if TCP in each and each[TCP].flags == "S"])


def _echoed(caller: Instance, target: Instance, size: int) -> bool:
    with closing(caller.datagrams()) as sender:
        sender.sendto(b"y" * size, (str(target.address), 8080))
        return len(sender.recv(size + 1)) == size


def _tag(stage: AttackedCell, of: Instance) -> int:
    listed = stage.host.run("ipset", "list", "cellnet-tags")
    found = re.search(rf"^{of.address} .*skbmark (0x[0-9a-f]+)", listed, re.MULTILINE)
    assert found, listed
    return int(found[1], 16)


@contextmanager
def _all_marked(caller: Node, mark: int) -> Iterator[None]:
    """Root inside marks all that leaves its sockets."""
    caller.run("iptables-nft", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-mark", str(mark))
    try:
        yield
    finally:
        caller.run("iptables-nft", "-t", "mangle", "-F")


def _marked(caller: Node, target: Node, mark: int) -> Outcome:
    def call() -> None:
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            made.settimeout(5.0)
            made.connect((str(target.address), 8080))

    return run_in(caller.pin, lambda: outcome_of(call))
