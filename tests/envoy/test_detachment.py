"""A container that goes while it is called and calls: others' streams with it end, and nothing of Envoy stays in it."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from dataplane.detachment import clear_namespace
from dataplane.flows import sockdiag
from dataplane.state import Allow
from host.namespace import run_in
from host.netlink.messages import SocketState
from tests.testlib.envoy import API, ENVOY_ID, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial, exchange
from tests.testlib.patience import eventually
from tests.testlib.tunnels.pair import API_TAG, WEB_TAG, TunnelPair, serve

OVER = (SocketState.TIME_WAIT, SocketState.CLOSED)  # the kernel's; what was destroyed, until its process looks at it


class Leaving:
    """`api` is to go. `calls` of others to it, and `own` calls of it, are open."""

    def __init__(self, cell: EnvoyCell, pair: EnvoyPair, stack: contextlib.ExitStack) -> None:
        self.cell, self.pair = cell, pair
        tunnels = TunnelPair(cell, pair)
        serve(cell, tunnels.workload("web", WEB, WEB_TAG, Allow(API_TAG, "tcp", 8080, 8080)))
        for app in (EchoApp(pair.api.path), EchoApp(pair.web.path, address=WEB)):
            stack.callback(app.close)
        self.call = stack.enter_context(dial(pair.web.path, port=8080))
        self.own = stack.enter_context(dial(pair.api.path, address=WEB, port=8080))
        for each in (self.call, self.own):
            assert exchange(each, b"hello") == b"hello"

    def envoys_sockets(self) -> list[sockdiag.Socket]:
        found = run_in(self.pair.api.path, lambda: (*sockdiag.tcp_sockets(), *sockdiag.all_listeners()))
        return [each for each in found if each.owner == ENVOY_ID and each.state not in OVER]

    def clear(self) -> None:
        clear_namespace(self.pair.api.path, address=API, envoy=ENVOY_ID)


@pytest.fixture
def leaving(cell: EnvoyCell, pair: EnvoyPair) -> Iterator[Leaving]:
    with contextlib.ExitStack() as stack:
        yield Leaving(cell, pair, stack)


def is_over(connection: socket.socket) -> bool:
    connection.settimeout(5)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_streams_end_and_nothing_of_envoy_stays(leaving: Leaving) -> None:
    ports = {each.local_port for each in leaving.envoys_sockets()}
    assert {15001, 15008} <= ports
    leaving.cell.drop(API)
    leaving.cell.settle(API)
    leaving.clear()
    assert leaving.envoys_sockets() == []
    assert is_over(leaving.call)
    assert is_over(leaving.own)


@pytest.mark.parametrize(
    "change",
    [
        ("ip", "address", "flush", "dev", "eth0"),
        ("ip", "link", "set", "eth0", "down"),
        ("ip", "link", "set", "lo", "down"),
        ("sh", "-c", "ip address add 10.255.7.7/32 dev lo; ip address del 10.255.1.3/24 dev eth0"),
    ],
)
def test_what_root_inside_has_changed_keeps_nothing_of_envoy_there(leaving: Leaving, change: tuple[str, ...]) -> None:
    leaving.pair.api.run(*change)
    leaving.cell.drop(API)
    leaving.cell.settle(API)
    leaving.clear()
    assert leaving.envoys_sockets() == []


def test_calls_from_another_address_inside_end_too(leaving: Leaving) -> None:
    """Such as from 127.0.0.1, to a port of Envoy's or through a rule of the container's own."""

    def from_loopback() -> socket.socket:
        return socket.create_connection(("127.0.0.1", 15001), source_address=("127.0.0.1", 0))

    with run_in(leaving.pair.api.path, from_loopback) as caller:
        leaving.clear()
        assert is_over(caller)


def test_listeners_that_envoy_does_not_close_are_destroyed(leaving: Leaving) -> None:
    """One that stands still; its listeners would take connections for the next owner of the address."""
    os.kill(leaving.cell.envoy.pid, signal.SIGSTOP)
    try:
        leaving.clear()
        assert leaving.envoys_sockets() == []
    finally:
        os.kill(leaving.cell.envoy.pid, signal.SIGCONT)
    leaving.cell.drop(API)
    leaving.cell.settle(API)
    eventually(leaving.cell.envoy.is_live)
