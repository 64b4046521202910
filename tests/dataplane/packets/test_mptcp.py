"""Programs that ask for MPTCP get plain TCP, within a cell and between cells, with both backends."""

import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from dataplane.firewall.backends.backends import Backend, can_strip_mptcp, firewall
from host.namespace import run_in
from tests.testlib.hosts import allow
from tests.testlib.netns import Netns
from tests.testlib.node import Node
from tests.testlib.two_hosts import DB, WEB, TwoHosts, two_hosts

IPPROTO_MPTCP = 262
SOL_MPTCP, MPTCP_INFO, FLAGS_AT, FALLBACK = 284, 1, 8, 1  # linux/mptcp.h; 6.1 does not answer TCP_IS_MPTCP


@pytest.fixture(params=list(Backend), ids=lambda each: each.value)
def both(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    firewalls = [firewall(Backend(request.param)) for _ in range(2)]
    with two_hosts(netns, firewalls=firewalls, permit=(allow(WEB, "8080"), allow(DB, "8080"))) as made:
        yield made


def is_mptcp(client: Node, server: Node) -> bool:
    """Whether both ends of a connection between two programs that want it speak it."""
    sockets = [each.keep(run_in(each.pin, lambda: socket.socket(proto=IPPROTO_MPTCP))) for each in (client, server)]
    asking, listener = sockets
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", 8080))
    listener.listen()
    asking.connect((str(server.address), 8080))
    with listener.accept()[0] as answering:
        answering.sendall(b"!")
        assert asking.recv(1) == b"!"
        listener.close()
        return any(map(speaks_mptcp, (asking, answering)))


def speaks_mptcp(connection: socket.socket) -> bool:
    """One that has fallen back says so, or is plain TCP already and knows nothing of the question."""
    try:
        answer = connection.getsockopt(SOL_MPTCP, MPTCP_INFO, FLAGS_AT + 4)
    except OSError:
        return False
    return not struct.unpack_from("=I", answer, FLAGS_AT)[0] & FALLBACK


def test_no_connection_between_containers_is_mptcp(both: TwoHosts) -> None:
    assert is_mptcp(both.api, both.api)
    assert not is_mptcp(both.web, both.api)
    assert not is_mptcp(both.db, both.api)


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_the_kernel_is_asked_whether_it_can(backend: Backend) -> None:
    assert can_strip_mptcp(backend)
