"""A container that may reach the names of an attacker's own domain: only what these stand for is open by that, and nothing that
is the cell's or the host's.
"""

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import dns.edns
import dns.message
import pytest
from scapy.layers.inet import IP, UDP

from dataplane.dns.command import HOP
from dataplane.firewall.outside_matches import name_set
from lab.segment import OUTSIDE
from tests.testlib.attacks.attacked_cell import BACKENDS, AttackedCell, attacked_cell
from tests.testlib.attacks.attacker import capture, withstood
from tests.testlib.dns.client import PORT, RESOLVER, Code, ask
from tests.testlib.dns.scripted_server import ScriptedDns, scripted_dns
from tests.testlib.mutation import Member, Setting, Without, asked, perhaps_mutated, stopped_by
from tests.testlib.node import Connected, Refused
from tests.testlib.outside import served

PATTERN, NAME = "*.evil.example", "x.evil.example"
POLICIES = f"""policies:
- {{name: own-domain, from: evil/shop/mallory, to: {{host: "{PATTERN}"}}, tcp: any, udp: any}}
"""
SET = name_set((PATTERN,))
PLACES = 1_200  # more than dnsmasq has
PAUSE = 0.5  # for an answer that must not come
METADATA, FAR, UNASKED = "169.254.169.254", "198.18.0.6", "198.18.0.7"


@dataclass(frozen=True, slots=True)
class Scene:
    """The cell, and the name server of the domain."""

    stage: AttackedCell
    owner: ScriptedDns


@pytest.fixture(scope="module", params=BACKENDS)
def open_scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    server = f"dns.upstreams=['{OUTSIDE.ip}']"
    with attacked_cell(request.param, server, policies=POLICIES, frozen=asked(request.config)) as stage:
        ways = [each for each in stage.iptables("-S").splitlines() if each.startswith("-N CELLNET-OUT-")]
        stage.ground.words["mallory_out"] = ways[0].split()[1]
        stage.outside.run("ip", "addr", "add", f"{METADATA}/32", "dev", "lo")
        with served(stage.outside, tcp=(443,), udp=(443,)), scripted_dns(stage.outside, at=OUTSIDE.ip) as owner:
            owner.records, owner.seconds = {NAME: [f"A {FAR}"]}, 1
            yield Scene(stage, owner)


@pytest.fixture
def scene(open_scene: Scene, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with perhaps_mutated(open_scene.stage.ground, request):
        yield open_scene
        open_scene.owner.records = {NAME: [f"A {FAR}"]}
        open_scene.stage.undo()


@stopped_by(Without("filter", "{mallory_out}", "CELLNET-REJECT"))
def test_an_address_that_nothing_has_asked_for_is_refused(scene: Scene) -> None:
    assert scene.stage.host.connect(UNASKED, 443) is Connected
    withstood(it=scene.stage.mallory.connect(UNASKED, 443) is Refused)
    withstood(it=scene.stage.mallory.udp(UNASKED, 443) is Refused)


@stopped_by(Member(SET, UNASKED))
def test_an_address_that_a_container_tells_itself_is_refused(scene: Scene) -> None:
    """By an answer that it forges in the resolver's place, at the resolver's address."""
    mallory = scene.stage.mallory
    mallory.run("ip", "addr", "add", "169.254.0.2/32", "dev", "lo")
    scene.stage.extra.append(lambda: mallory.run("ip", "addr", "del", "169.254.0.2/32", "dev", "lo"))
    with scripted_dns(mallory, at=IPv4Address("169.254.0.2")) as forged:
        forged.records = {NAME: [f"A {UNASKED}"]}
        assert ask(mallory, NAME).addresses == [UNASKED]
    withstood(it=mallory.connect(UNASKED, 443) is Refused)


@stopped_by(Member(SET, METADATA), Without("filter", "CELLNET-EGRESS", "-d 169.254.0.0/16"))
def test_a_name_that_stands_for_what_is_never_outside_opens_nothing(scene: Scene) -> None:
    """The agent takes no such address, and the kernel would refuse one that is in the set."""
    scene.owner.records = {NAME: [f"A {METADATA}"]}
    scene.stage.outside.listen(80)
    assert scene.stage.host.connect(METADATA, 80) is Connected
    assert ask(scene.stage.mallory, NAME).addresses == []
    withstood(it=scene.stage.mallory.connect(METADATA, 80) is Refused)


@stopped_by(
    Setting("net/ipv4/conf/{mallory}/route_localnet", 1),
    Without("filter", "CELLNET-INPUT", "-i cnet+"),
)
def test_a_container_does_not_reach_the_hop_itself(scene: Scene) -> None:
    """Where it could ask in another's name."""
    mallory, hop = scene.stage.mallory, str(HOP.address)
    question = dns.message.make_query(NAME, "A", use_edns=0)
    question.use_edns(0, options=[dns.edns.ECSOption(str(scene.stage.web.address), 32)])
    with capture(scene.stage.host, scene.stage.mallory.interface) as listening, capture(mallory) as answers:
        scene.stage.wire.send(IP(src=str(mallory.address), dst=hop) / UDP(sport=4242, dport=HOP.port) / question.to_wire())
        scene.stage.settle()
        assert any(each[IP].dst == hop for each in listening.pending() if IP in each), "it has been sent"
        time.sleep(PAUSE)
        found = [each.summary() for each in answers.pending() if IP in each and each[IP].src == hop]
    withstood(it=not found, what=f"{found}")


@stopped_by(Without("filter", "CELLNET-RESOLVER", "--bytecode"))
def test_questions_that_no_answer_fits_leave_the_others_their_names(scene: Scene) -> None:
    """Names that go on in the message's header, which dnsmasq changes: it waits ten seconds for an answer to each."""
    mallory, web = scene.stage.mallory, scene.stage.web
    with web.datagrams() as asking:
        for number in range(PLACES):
            header = struct.pack("!6H", 0x0102, 0x0100, 1, 0, 0, 0)
            asking.sendto(header + b"\4%04d\xc0\1" % number + b"\0\1\0\1", (str(RESOLVER), PORT))
            time.sleep(0.1 if number % 100 == 0 else 0)
    found = ask(mallory, NAME)
    withstood(it=found.code is not Code.REFUSED, what="there is no place for another question")
