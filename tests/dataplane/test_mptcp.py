"""Programs that ask for MPTCP get plain TCP, within a cell and between cells, with both backends."""

import socket
from collections.abc import Callable, Iterator

import pytest

from dataplane.firewall.backends import Backend, can_strip_mptcp, firewall
from host.namespace import run_in
from tests.testlib.hosts import allow
from tests.testlib.netns import Netns
from tests.testlib.node import Node
from tests.testlib.two_hosts import DB, WEB, TwoHosts, two_hosts

IPPROTO_MPTCP, TCP_IS_MPTCP = 262, 43


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
        return any(each.getsockopt(socket.IPPROTO_TCP, TCP_IS_MPTCP) for each in (asking, answering))


def test_no_connection_between_containers_is_mptcp(both: TwoHosts) -> None:
    assert is_mptcp(both.api, both.api)
    assert not is_mptcp(both.web, both.api)
    assert not is_mptcp(both.db, both.api)


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_the_kernel_is_asked_whether_it_can(backend: Backend) -> None:
    assert can_strip_mptcp(backend)
