"""A cell whose containers may leave the overlay, by default or by a policy: masqueraded, and nowhere else than out."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from dataplane.tables import container_mac, host_mac
from tests.testlib.attacks.attacked_cell import BACKENDS, AttackedCell, attacked_cell
from tests.testlib.attacks.attacker import capture, withstood
from tests.testlib.mutation import Setting, With, Without, asked, perhaps_mutated, stopped_by
from tests.testlib.node import Connected, Refused

METADATA = "169.254.169.254"
SENT_BACK = "198.18.0.7"
BY_DEFAULT, BY_POLICY = ("egress.default=allow",), ()
EVERYWHERE = """policies:
- {name: everywhere, from: evil/shop/mallory, to: {cidr: 0.0.0.0/0}, tcp: any, udp: any, icmp: echo}
"""


def _way(stage: tuple[str, tuple[str, ...]]) -> str:
    return f"{stage[0]}-{'by default' if stage[1] else 'by policy'}"


@pytest.fixture(scope="module", params=itertools.product(BACKENDS, (BY_DEFAULT, BY_POLICY)), ids=_way)
def open_stage(request: pytest.FixtureRequest) -> Iterator[AttackedCell]:
    backend, overrides = request.param
    with attacked_cell(backend, *overrides, policies="" if overrides else EVERYWHERE, frozen=asked(request.config)) as made:
        made.outside.run("ip", "addr", "add", f"{METADATA}/32", "dev", "lo")
        yield made


@pytest.fixture
def stage(open_stage: AttackedCell, request: pytest.FixtureRequest) -> Iterator[AttackedCell]:
    with perhaps_mutated(open_stage.ground, request):
        yield open_stage
        open_stage.undo()


@pytest.fixture
def way_back(stage: AttackedCell) -> None:
    """From outside to the container's own address: without it, none would answer what comes from there."""
    stage.outside.run("ip", "route", "add", f"{stage.mallory.address}/32", "via", str(stage.host.address))
    stage.extra.append(lambda: stage.outside.run("ip", "route", "del", f"{stage.mallory.address}/32"))


@stopped_by(Without("nat", "CELLNET-POSTROUTING", "MASQUERADE"))
def test_a_container_gets_out_with_the_cells_address(stage: AttackedCell, way_back: None) -> None:
    with stage.outside.listen(8443) as listener:
        stage.mallory.dial(stage.outside, 8443)
        withstood(it=listener.accept()[1][0] == str(stage.host.address))
    with stage.outside.datagrams(5353) as far:
        stage.mallory.datagrams().sendto(b"question", (str(stage.outside.address), 5353))
        withstood(it=far.recvfrom(100)[1][0] == str(stage.host.address))


@stopped_by(Without("filter", "CELLNET-ERRORS", "SNAT"))
def test_a_closed_port_outside_is_refused_at_once(stage: AttackedCell) -> None:
    """Nothing of the outside keeps a container waiting for what is not there: errors about masqueraded flows come in."""
    assert stage.mallory.connect(stage.outside, 9999) is Refused
    withstood(it=stage.mallory.udp(stage.outside, 9999) is Refused)


@stopped_by(Without("filter", "CELLNET-EGRESS", "-d 169.254.0.0/16"))
def test_link_local_addresses_beyond_the_cell_stay_closed(stage: AttackedCell) -> None:
    """Where clouds keep the keys of the host."""
    stage.outside.listen(80)
    assert stage.host.connect(METADATA, 80) is Connected
    withstood(it=stage.mallory.connect(METADATA, 80) is Refused)


@stopped_by(Without("filter", "{api_chain}", "CELLNET-REJECT"), Without("filter", "CELLNET-EGRESS", "-d 10.255.0.0/16"))
def test_the_overlay_stays_closed_without_a_policy(stage: AttackedCell) -> None:
    assert stage.web.connect(stage.api, 8080) is Connected
    for target in (stage.api, "10.255.1.99", "10.255.2.9"):
        withstood(it=stage.mallory.connect(target, 8080) is Refused)
        withstood(it=stage.mallory.udp(target, 8080) is Refused)


@stopped_by(Without("filter", "CELLNET-INPUT", "-i cnet+"))
def test_the_cells_own_addresses_stay_closed(stage: AttackedCell) -> None:
    stage.host.listen(9000)
    assert stage.outside.connect(stage.host, 9000) is Connected
    withstood(it=stage.mallory.connect(stage.host, 9000) is Refused)


@stopped_by(Without("filter", "CELLNET-NEW", "-j CELLNET-REJECT"))
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_address_outside_that_sends_calls_back_leads_to_no_container(stage: AttackedCell, protocol: str) -> None:
    """A router out there, which the attacker has: what was let out comes back to the cell, for one of its containers."""
    with ExitStack() as undone:
        for table, words in (
            ("PREROUTING", f"-d {SENT_BACK} -j DNAT --to-destination {stage.api.address}"),
            ("POSTROUTING", f"-d {stage.api.address} -j MASQUERADE"),
        ):
            stage.outside.run("iptables-nft", "-t", "nat", "-A", table, *words.split())
            undone.callback(stage.outside.run, "iptables-nft", "-t", "nat", "-D", table, *words.split())
        stage.outside.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        stage.outside.run("ip", "route", "add", str(stage.api.address), "via", str(stage.host.address))
        undone.callback(stage.outside.run, "ip", "route", "del", str(stage.api.address))
        call = stage.mallory.connect if protocol == "tcp" else stage.mallory.udp
        withstood(it=call(SENT_BACK, 8080) is Refused)


@stopped_by(
    Setting("net/ipv6/conf/{mallory}/disable_ipv6", 0),
    Without("raw", "CELLNET-PREROUTING", "-i cnet+", family=6),
)
def test_nothing_gets_out_over_ipv6(stage: AttackedCell) -> None:
    """On a host that forwards it, as another engine may have it."""
    uplink, far = "eth0", "2001:db8::2"
    stage.host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    stage.host.run("ip", "-6", "addr", "replace", "2001:db8::1/64", "dev", uplink, "nodad")
    stage.host.run("ip", "-6", "neigh", "replace", far, "lladdr", "02:00:00:00:00:07", "dev", uplink)
    frame = Ether(src=container_mac(stage.mallory.address), dst=host_mac(stage.mallory.address))
    with capture(stage.outside, "uplink1") as listening:
        stage.wire.send(frame / IPv6(src="2001:db8:1::9", dst=far) / UDP(sport=9, dport=53) / b"leaves")
        stage.settle()
        found = [each.summary() for each in listening.pending() if IPv6 in each and each[IPv6].dst == far]
    withstood(it=not found, what=f"{found}")


@stopped_by(
    Without("nat", "CELLNET-POSTROUTING", "MASQUERADE"),
    Without("filter", "CELLNET-NEW", "INVALID"),
    Without("filter", "CELLNET-NEW", "! --tcp-flags"),
    With("filter", "CELLNET-EGRESS", "-j ACCEPT"),  # without a SYN there is no tag
)
def test_nothing_gets_out_with_an_overlay_address(stage: AttackedCell) -> None:
    """What conntrack has no entry for is not masqueraded, so it must not pass."""
    outside = str(stage.outside.address)
    source: dict[str, Any] = {"src": str(stage.mallory.address), "dst": outside}
    with capture(stage.outside, "uplink1") as listening:
        for number, flags in enumerate(("", "A", "PA", "FA", "R", "RA", "SA", "SF", "SR", "FPU")):
            stage.wire.send(IP(**source) / TCP(sport=40_000 + number, dport=80, flags=flags, seq=7, ack=7) / b"leaves")
        stage.wire.send(IP(src="10.255.1.99", dst=outside) / UDP(sport=9, dport=53) / b"leaves")
        stage.settle()
        found = [frame[IP].src for frame in listening.pending() if IP in frame]
    withstood(it=not [each for each in found if each.startswith("10.255.")], what=f"{found}")
