"""Root in a container that is refused without end: it hides nothing that another container was refused, and costs little."""

import time

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet

from tests.testlib.attacks.attacked_cell import AttackedCell
from tests.testlib.attacks.attacker import Wire, withstood
from tests.testlib.mutation import Without, stopped_by
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually

FLOOD = 4_000
SHARE = Without("filter", "CELLNET-REJECT", "-s 10.255.0.0/16 -m hashlimit")
MALLORY = "evil/shop/mallory"


def _denied(stage: AttackedCell, app: str, port: str = "") -> list[tuple[str, str]]:
    """Port and reason of each."""
    query = {"app": app, **({"port": port} if port else {})}
    found = stage.cell.client.get("/v1/denied", **query).at("denied").each()
    return [(each.text("port"), each.text("reason")) for each in found]


@pytest.fixture
def audited(stage: AttackedCell) -> AttackedCell:
    """mallory may reach api's port 8095 by an audit alone."""
    stage.cell.policy_file("trial.yaml", "policies: [{from: evil/shop/*, to: acme/shop/api, tcp: 8095, mode: audit}]\n")
    stage.extra.append(lambda: stage.cell.policy_file("trial.yaml", "policies: []\n"))
    return stage


def _flood(stage: AttackedCell, wire: Wire) -> None:
    def framed(*layers: Packet | bytes) -> bytes:
        packet = IP(src=str(stage.mallory.address), dst=str(stage.api.address))
        for layer in layers:
            packet = packet / layer
        return bytes(wire.framed(packet))

    frames = [framed(TCP(sport=1024 + number, dport=9500, flags="S")) for number in range(FLOOD // 2)]
    frames += [framed(UDP(sport=1024 + number, dport=9600), b"x") for number in range(FLOOD // 2)]
    wire.send_as_they_are(frames)


@stopped_by(SHARE)
def test_a_flood_of_refused_packets_is_told_in_part_and_hides_nobody_elses(stage: AttackedCell) -> None:
    began = time.monotonic()
    _flood(stage, stage.wire)
    assert stage.web.connect(stage.api, 9999) is Refused
    eventually(lambda: ("9999", "policy") in _denied(stage, "acme/shop/web", "tcp/9999"))
    told = len(_denied(stage, MALLORY))
    most = 50 + 20 * (time.monotonic() - began + 1)
    assert told > 0
    withstood(it=told <= most, what=f"{told} of {FLOOD} were told")
    assert stage.cell.status().at("denied").text("lost") == "0"


def test_an_audit_opens_no_more_than_it_says_and_a_flood_of_what_it_passes_hides_nothing(audited: AttackedCell) -> None:
    stage, began = audited, time.monotonic()
    for port in (8095, 8096):
        stage.api.listen(port)
    assert [stage.mallory.connect(stage.api, port) for port in (8095, 8096)] == [Connected, Refused]
    assert stage.mallory.udp(stage.api, 8095) is Refused
    assert stage.web.connect(stage.api, 8095) is Refused, "it is not web's"
    packet = IP(src=str(stage.mallory.address), dst=str(stage.api.address))
    frames = [bytes(stage.wire.framed(packet / TCP(sport=1024 + n, dport=8095, flags="S"))) for n in range(FLOOD // 2)]
    stage.wire.send_as_they_are(frames)
    assert stage.web.connect(stage.api, 9998) is Refused
    assert stage.mallory.connect(stage.api, 8097) is Refused
    eventually(lambda: ("9998", "policy") in _denied(stage, "acme/shop/web", "tcp/9998"))
    eventually(lambda: ("8097", "policy") in _denied(stage, MALLORY, "tcp/8097"))
    found = _denied(stage, MALLORY, "tcp/8095")
    assert {reason for _, reason in found} == {"audit"}
    assert len(found) <= 50 + 20 * (time.monotonic() - began + 1)
    assert {port for port, reason in _denied(stage, MALLORY) if reason == "audit"} == {"8095"}


def test_forged_sources_are_told_as_nobodys(stage: AttackedCell) -> None:
    forged = [IP(src=f"203.0.113.{n}", dst=str(stage.api.address)) / UDP(sport=5000, dport=8080) / b"x" for n in range(1, 200)]
    stage.wire.send(*forged)

    def told() -> bool:
        found = stage.cell.client.get("/v1/denied", to="acme/shop/api").at("denied").each()
        return ("203.0.113.1", "spoofed") in [(each.text("from"), each.text("reason")) for each in found]

    eventually(told)
