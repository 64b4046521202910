"""A program that calls one address after the other, or one port: Envoy forgets where it has been, and goes on with its work."""

import contextlib
import selectors
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane.state import Allow
from host.namespace import run_in
from tests.testlib.attacks.bystander import Bystander
from tests.testlib.attacks.http2_client import Http2Client
from tests.testlib.attacks.tunnel_caller import TunnelCaller
from tests.testlib.certificates import identity
from tests.testlib.envoy import API, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial, exchange
from tests.testlib.patience import eventually
from tests.testlib.tunnels.pair import API_TAG, WEB_TAG, TunnelPair, serve

PLACES, AT_ONCE, IN_A_TUNNEL, FEW = 16_000, 500, 100, 50
NOBODYS = IPv4Network("10.255.64.0/18")  # of the overlay
OWN, ELSEWHERE = IPv4Network("10.255.1.0/24"), IPv4Network("10.255.3.0/24")
UNDERLAY = IPv4Address("192.0.2.1")


@pytest.fixture
def bystander(cell: EnvoyCell, pair: EnvoyPair, tunnels: TunnelPair) -> Iterator[Bystander]:
    """Calls from `api` to `web`, of which none may fail."""
    serve(cell, tunnels.workload("web", WEB, WEB_TAG, Allow(API_TAG, "tcp", 8080, 8080)))
    app = EchoApp(pair.web.path, address=WEB)
    with Bystander(lambda: dial(pair.api.path, address=WEB, port=8080)) as made:
        yield made
        before = made.calls()
        eventually(lambda: made.calls() >= before + 20)
    assert made.failures == []
    app.close()


def known_to(cell: EnvoyCell) -> int:
    """How many addresses Envoy knows in all its clusters."""
    argv = ["curl", "-sf", "--unix-socket", str(cell.envoy.settings.admin), "http://envoy/clusters"]
    return subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout.count(b"::hostname::")


@pytest.mark.usefixtures("bystander")
def test_of_thousands_of_addresses_that_no_cell_has_envoy_learns_none(
    cell: EnvoyCell, pair: EnvoyPair, tunnels: TunnelPair
) -> None:
    """They held its main thread up, and each change of a right with it, whoever called them."""
    pair.web.run("ip", "route", "add", str(NOBODYS), "via", str(API))
    pair.api.run("ip", "route", "add", "local", str(NOBODYS), "dev", "lo")
    run_in(pair.web.path, lambda: call_each((address, 8080) for address in map(str, NOBODYS)))
    assert known_to(cell) < FEW
    tunnels.allow(Allow(WEB_TAG, "tcp", 8080, 8081))
    eventually(tunnels.reaches)


def test_of_another_cell_envoy_hears_without_a_change_to_what_is_open(
    cell: EnvoyCell, pair: EnvoyPair, tunnels: TunnelPair, app: EchoApp
) -> None:
    with dial(pair.web.path, address=API, port=8080) as stream:
        assert exchange(stream, b"before") == b"before"
        for subnet, peers in ((ELSEWHERE, ()), (ELSEWHERE, (OWN,)), (OWN, (ELSEWHERE,)), (OWN, ())):
            cell.publish(subnet=subnet, peers=dict.fromkeys(peers, UNDERLAY))
            cell.settle(WEB)
            eventually(lambda led=OWN in (subnet, *peers): tunnels.reaches() == led)  # type: ignore[misc]
            assert exchange(stream, b"after") == b"after"
        time.sleep(3)  # longer than what Envoy drains a listener for
        assert exchange(stream, b"at last") == b"at last"
    assert app.peers


@pytest.mark.usefixtures("bystander")
def test_of_thousands_of_ports_that_a_caller_may_use_few_are_kept(
    cell: EnvoyCell, pair: EnvoyPair, tunnels: TunnelPair
) -> None:
    tunnels.allow(Allow(WEB_TAG, "tcp", 1, 65535))
    leaf = cell.ca.leaf(identity("acme/shop/web", address=str(WEB)))
    for first in range(20_000, 20_000 + PLACES, IN_A_TUNNEL):
        caller = TunnelCaller(pair.web.path, cell.ca.root.bundle(), leaf=leaf)
        with contextlib.closing(Http2Client(caller.tunnel())) as asking:
            for port in range(first, first + IN_A_TUNNEL):
                asking.connect(f"{API}:{port}")
            eventually(lambda asking=asking: asking.take(0.01) and len(asking.refused) == IN_A_TUNNEL)  # type: ignore[misc]
    assert known_to(cell) < PLACES / 4
    assert tunnels.reaches()


def call_each(places: Iterable[tuple[str, int]]) -> None:
    """So many at once, each until its end."""
    with selectors.DefaultSelector() as waiting:
        for number, place in enumerate(places):
            calling = socket.socket()
            calling.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                calling.connect(place)
            waiting.register(calling, selectors.EVENT_READ)
            while len(waiting.get_map()) > AT_ONCE or (number + 1 == PLACES and waiting.get_map()):
                for key, _ in waiting.select(5):
                    ended = waiting.unregister(key.fileobj).fileobj
                    assert isinstance(ended, socket.socket)
                    ended.close()
