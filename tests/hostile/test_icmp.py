"""ICMP errors, which conntrack relates to the flow that they quote, whichever host has sent them."""

from contextlib import closing
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Packet

from tests.testlib.attacks.attacked_cell import AttackedCell
from tests.testlib.attacks.attacker import withstood
from tests.testlib.mutation import Kernel, Without, stopped_by
from tests.testlib.node import Refused

UNREACHABLE, TOO_BIG, QUENCH, REDIRECT, EXPIRED, BAD_HEADER = (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0)
ERRORS = (UNREACHABLE, TOO_BIG, QUENCH, REDIRECT, EXPIRED, BAD_HEADER)
OTHERS = Without("raw", "CELLNET-PREROUTING", "-m bpf")


def _error(source: object, flow: Packet, kind: tuple[int, int], **fields: Any) -> Packet:
    """An error to the sender of a packet of a flow."""
    return IP(src=str(source), dst=flow[IP].src) / ICMP(type=kind[0], code=kind[1], **fields) / flow


@pytest.mark.parametrize("kind", ERRORS)
@stopped_by(OTHERS)
def test_an_error_about_anothers_flow_is_dropped(stage: AttackedCell, kind: tuple[int, int]) -> None:
    flow = stage.web.datagrams()
    flow.connect((str(stage.api.address), 8080))
    flow.send(b"question")
    assert flow.recv(100) == b"question"
    question = IP(src=str(stage.web.address), dst=str(stage.api.address)) / UDP(sport=flow.getsockname()[1], dport=8080)
    found = stage.captured(_error(stage.mallory.address, question / b"question", kind), at=stage.web)
    withstood(it=not any(ICMP in each for each in found))


def test_an_error_about_the_own_flow_arrives(stage: AttackedCell) -> None:
    assert stage.web.udp(stage.api, 8085) is Refused  # api's kernel says so: the policy lets it through
    assert stage.host.udp(stage.mallory, 8085) is Refused


@stopped_by(OTHERS)
def test_a_container_does_not_shrink_the_hosts_path_to_others(stage: AttackedCell) -> None:
    with closing(stage.outside.datagrams(5555)) as far, closing(stage.host.datagrams(5556)) as near:
        near.connect((str(stage.outside.address), 5555))
        near.send(b"question")
        assert far.recv(100) == b"question"
        question = IP(src=str(stage.host.address), dst=str(stage.outside.address)) / UDP(sport=5556, dport=5555) / b"question"
        stage.wire.send(_error(stage.mallory.address, question, TOO_BIG, nexthopmtu=600))
        stage.wire.send(_error(stage.mallory.address, question, UNREACHABLE))
        stage.settle()
        withstood(it="mtu" not in stage.host.run("ip", "route", "get", str(stage.outside.address)))
        near.send(b"question")
        assert far.recv(100) == b"question"


@stopped_by(OTHERS, Kernel("takes redirects from the gateway in use only"))
def test_a_redirect_changes_no_route_of_the_host(stage: AttackedCell) -> None:
    with closing(stage.host.datagrams(5556)) as near:
        near.connect(("8.8.8.8", 5555))
        near.send(b"question")
        question = IP(src=str(stage.host.address), dst="8.8.8.8") / UDP(sport=5556, dport=5555) / b"question"
        stage.wire.send(_error(stage.mallory.address, question, REDIRECT, gw=str(stage.mallory.address)))
        stage.settle()
        withstood(it=str(stage.mallory.address) not in stage.host.run("ip", "route", "get", "8.8.8.8"))
