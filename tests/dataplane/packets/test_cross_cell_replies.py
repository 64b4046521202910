"""What comes back from another cell is a reply only if that cell says so too: each tracks connections for itself, and two
containers that have both called would else be taken by both for the other's answer.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from scapy.layers.inet import IP, TCP

from dataplane.firewall.backends.driver import Firewall
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from host.namespace import run_in
from tests.testlib.hosts import allow, await_carrier
from tests.testlib.netns import Netns
from tests.testlib.node import Node, Refused
from tests.testlib.patience import eventually
from tests.testlib.two_hosts import WEB, TwoHosts, two_hosts

BACKENDS: dict[str, type[Firewall]] = {"nft": NftFirewall, "legacy": LegacyFirewall}
RIGHTS = allow(WEB, "8080"), allow(WEB, "8080", "udp")
ONE, OTHER = 7000, 7001  # ports that no policy speaks of
SILENCE = 0.1  # seconds after which nothing is taken to come


@pytest.fixture(params=BACKENDS)
def cells(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    kind = BACKENDS[request.param]
    with two_hosts(netns, firewalls=[kind(), kind()], permit=RIGHTS) as made:
        yield made


def datagrams(place: Node, port: int, *, to: Node, far: int) -> socket.socket:
    made = place.datagrams(port)
    made.connect((str(to.address), far))
    made.settimeout(SILENCE)
    return made


def exchange(client: socket.socket, server: socket.socket) -> None:
    """A datagram there and one back; again where a link that has just come up has lost one."""

    def answered() -> bool:
        with suppress(TimeoutError):
            client.send(b"?")
            assert server.recv(1) == b"?"
            server.send(b"!")
            return client.recv(1) == b"!"
        return False

    eventually(answered)
    for end in (client, server):
        heard(end)  # late ones, where it took several


def heard(end: socket.socket) -> list[bytes]:
    """What has come in, without the errors."""
    found = []
    while True:
        with suppress(ConnectionRefusedError):
            try:
                found.append(end.recv(100))
            except TimeoutError:
                return found


def test_two_containers_that_both_call_first_exchange_no_datagram(cells: TwoHosts) -> None:
    one, other = datagrams(cells.web, ONE, to=cells.api, far=OTHER), datagrams(cells.api, OTHER, to=cells.web, far=ONE)
    for _ in range(5):
        for end in (one, other):
            with suppress(ConnectionRefusedError):
                end.send(b"hello")
    assert (heard(one), heard(other)) == ([], [])


def test_a_server_whose_right_to_answer_was_taken_back_cannot_go_on(cells: TwoHosts) -> None:
    client, server = datagrams(cells.web, ONE, to=cells.api, far=8080), datagrams(cells.api, 8080, to=cells.web, far=ONE)
    exchange(client, server)
    cells.permit(allow(WEB, "8080"))
    cells.there.sweep(cells.api.address)
    for _ in range(5):
        with suppress(ConnectionRefusedError):
            server.send(b"more")
    assert heard(client) == []


def test_what_a_client_was_refused_meanwhile_passes_as_soon_as_it_may(cells: TwoHosts) -> None:
    client, server = datagrams(cells.web, ONE, to=cells.api, far=8080), datagrams(cells.api, 8080, to=cells.web, far=ONE)
    for _ in range(3):
        cells.permit(*RIGHTS)
        exchange(client, server)
        cells.permit(allow(WEB, "8080"))
        cells.there.sweep(cells.api.address)
        client.send(b"?")
        assert heard(client) == heard(server) == []


def test_two_containers_that_both_call_first_do_not_connect(cells: TwoHosts) -> None:
    """The first one's SYN is lost between the cells, so no rule has refused it when the other's arrives."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.bind(("", ONE))
        made.setblocking(False)
        return made

    first = cells.web.keep(run_in(cells.web.pin, make))
    cells.here.netns.run("ip", "link", "set", "u0", "down")
    first.setblocking(False)
    first.connect_ex((str(cells.api.address), OTHER))
    cells.here.netns.run("ip", "link", "set", "u0", "up")
    await_carrier(cells.here.netns, "u0")
    assert cells.api.connect(cells.web, ONE, source_port=OTHER) is Refused
    assert cells.api.connect(cells.web, ONE, source_port=OTHER + 1) is Refused


def test_no_forged_segment_passes_for_an_answer(cells: TwoHosts) -> None:
    """Root in both containers, each of which has called the other in vain."""
    web, api = str(cells.web.address), str(cells.api.address)
    assert cells.web.connect(cells.api, OTHER, source_port=ONE) is Refused
    cells.here.netns.run("ip", "link", "set", "u0", "down")
    raw(cells.api, IP(src=api, dst=web) / TCP(sport=OTHER, dport=ONE, flags="S", seq=100))
    cells.here.netns.run("ip", "link", "set", "u0", "up")
    await_carrier(cells.here.netns, "u0")
    ears = cells.api.keep(run_in(cells.api.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)))
    ears.settimeout(SILENCE)
    for flags in ("A", "PA", "SA", "R", "RA", "FA", "S"):
        raw(cells.web, IP(src=web, dst=api) / TCP(sport=ONE, dport=OTHER, flags=flags, seq=0, ack=101) / b"forged")
    found = []
    with suppress(TimeoutError):
        while True:
            found.append(ears.recv(100))
    assert not [each for each in found if b"forged" in each]


def raw(place: Node, packet: IP) -> None:
    sender = run_in(place.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
    with sender, suppress(OSError):
        sender.sendto(bytes(packet), (packet.dst, 0))


def test_replies_pass_also_where_both_cells_track_them_differently(cells: TwoHosts) -> None:
    """A cell that has lost its entries takes up the next datagram of a client."""
    client, server = datagrams(cells.web, ONE, to=cells.api, far=8080), datagrams(cells.api, 8080, to=cells.web, far=ONE)
    for host in (cells.here, cells.there):
        exchange(client, server)
        host.netns.run("conntrack", "-F")
    exchange(client, server)
