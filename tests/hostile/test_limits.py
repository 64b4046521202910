"""A container with limits, whose root wants more than them: of connections to the outside, and of the way there."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from dataplane.netlink.link_rates import LEAST_BYTES
from host.namespace import run_in
from tests.testlib.attacks.attacked_cell import BACKENDS, AttackedCell, attacked_cell
from tests.testlib.attacks.attacker import withstood
from tests.testlib.mutation import Ran, Without, asked, perhaps_mutated, stopped_by
from tests.testlib.node import Connected, Node, Outcome, connect_at_once, one_datagram, outcome_of

OPEN, NEW, RATE = 20, 30, 10_000_000
LIMITS = (f"--limit-connections={OPEN}", f"--limit-new={NEW}/s", "--limit-rate=10mbit")
EVERYWHERE = """policies:
- {name: everywhere, from: [evil/shop/*, acme/shop/web], to: {cidr: 0.0.0.0/0}, tcp: any, udp: any, icmp: echo}
"""
CALLS, DATAGRAMS, SIZE = 400, 5_000, 1_400
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
PORT = 5353
OPENED = 1  # a state of TCP


@pytest.fixture(scope="module", params=BACKENDS)
def limited_stage(request: pytest.FixtureRequest) -> Iterator[AttackedCell]:
    with attacked_cell(request.param, policies=EVERYWHERE, limits=LIMITS, frozen=asked(request.config)) as made:
        yield made


@pytest.fixture
def stage(limited_stage: AttackedCell, request: pytest.FixtureRequest) -> Iterator[AttackedCell]:
    with perhaps_mutated(limited_stage.ground, request):
        yield limited_stage
        limited_stage.undo()
        limited_stage.mallory.close()


def call_and_reset(client: Node, target: Node, port: int) -> Outcome:
    """A connection of which nothing is left."""
    with run_in(client.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as made:
        made.settimeout(5.0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return outcome_of(lambda: made.connect((str(target.address), port)))


@stopped_by(Without("filter", "CELLNET-LIMITS-0", "hashlimit"))
def test_it_begins_no_more_flows_in_a_second_whatever_they_are(stage: AttackedCell) -> None:
    ports = [8000 + number for number in range(4)]
    for port in ports:
        stage.outside.listen(port).listen(256)
    begun = time.monotonic()
    found = [call_and_reset(stage.mallory, stage.outside, ports[number % len(ports)]) for number in range(CALLS)]
    most = NEW * (time.monotonic() - begun + 2)
    withstood(it=found.count(Connected) <= most, what=f"{found.count(Connected)} of {CALLS}, at most {most:.0f}")
    assert connect_at_once(stage.web, stage.outside, ports[0]) is Connected


@stopped_by(Without("filter", "CELLNET-LIMITS-0", "connlimit"))
def test_it_has_no_more_flows_open_whatever_they_are(stage: AttackedCell) -> None:
    """Slowly, so that it is not the number in a second."""
    stage.outside.listen(8443).listen(256)
    stage.outside.datagrams(PORT)
    held = []
    for number in range(2 * OPEN):
        with suppress(OSError):
            if number % 2:
                held.append(stage.mallory.datagrams())
                held[-1].connect((str(stage.outside.address), PORT))
                held[-1].send(b"?")
            else:
                held.append(stage.mallory.dial(stage.outside, 8443))
        time.sleep(1.2 / NEW)
    listed = stage.host.run("conntrack", "-L", "-s", str(stage.mallory.address), "-d", str(stage.outside.address)).splitlines()
    opened = [line for line in listed if ("ESTABLISHED" in line and " dport=8443" in line) or f" dport={PORT}" in line]
    withstood(it=len(opened) <= OPEN, what=f"{len(opened)} flows")
    assert connect_at_once(stage.web, stage.outside, 8443) is Connected


@stopped_by(Without("mangle", "CELLNET-PREROUTING", "TTL"))
def test_it_has_no_more_connections_open_by_resets_that_do_not_arrive(stage: AttackedCell) -> None:
    """They have one hop left, and end at the cell."""
    listener, far = stage.outside.listen(8444), []
    listener.listen(256)
    for _ in range(2 * OPEN):
        with suppress(OSError):
            near = stage.mallory.dial(stage.outside, 8444)
            far.append(stage.outside.keep(listener.accept()[0]))
            near.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near.close()
        time.sleep(1.2 / NEW)
    opened = [each for each in far if each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == OPENED]
    withstood(it=len(opened) <= OPEN, what=f"{len(opened)} connections")
    assert len(far) > OPEN, "what has been reset is over, and leaves room"


@stopped_by(
    Ran(
        "tc qdisc replace dev {mallory_shaper} root tbf rate 10gbit burst 1m limit 9m",
        "tc qdisc replace dev {mallory_shaper} root tbf rate 10mbit burst 128k limit 128k",
    )
)
def test_it_sends_no_faster_than_its_rate_whatever_its_root_does_to_its_own_end(stage: AttackedCell) -> None:
    for words in ("tc qdisc replace dev eth0 root pfifo limit 9999", "ip link set eth0 txqueuelen 9999"):
        stage.mallory.run(*words.split())
    with stage.mallory.datagrams() as sender, stage.outside.datagrams(PORT) as receiver:
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 25)
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        begun = time.monotonic()
        for _ in range(DATAGRAMS):
            sender.sendto(bytes(SIZE), (str(stage.outside.address), PORT))
        receiver.settimeout(0.5)
        got = 0
        with suppress(TimeoutError):
            while receiver.recv(SIZE):
                got += SIZE
        most = LEAST_BYTES + RATE / 8 * (time.monotonic() - begun)
    withstood(it=got <= most, what=f"{got} bytes, at most {most:.0f}")
    assert one_datagram(stage.web, stage.outside, 9) is not Connected
