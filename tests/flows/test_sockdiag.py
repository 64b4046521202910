"""The sockets of a namespace: found by their ends in either family, and destroyed by their cookie alone."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from dataplane.flows import sockdiag
from dataplane.flows.sockdiag import Ends
from host.namespace import NamespaceThread
from host.netlink.messages import SocketState
from tests.testlib.netns import Netns

HERE, ELSEWHERE = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")


@dataclass(frozen=True)
class Inside:
    """One namespace with its loopback, and the sockets made there."""

    thread: NamespaceThread
    made: list[socket.socket]

    def keep(self, made: socket.socket) -> socket.socket:
        made.settimeout(5)
        self.made.append(made)
        return made

    def server(self, port: int, address: str = str(HERE)) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        dual = address == "::"
        return self.keep(self.thread.call(lambda: socket.create_server((address, port), family=family, dualstack_ipv6=dual)))

    def pair(self, server: socket.socket) -> tuple[socket.socket, socket.socket]:
        port = server.getsockname()[1]
        client = self.keep(self.thread.call(lambda: socket.create_connection((str(HERE), port))))
        return client, self.keep(server.accept()[0])

    def listening(self, address: IPv4Address, port: int) -> bool:
        return self.thread.call(lambda: sockdiag.listening(address, port))


@pytest.fixture
def inside(netns: Callable[[str], Netns]) -> Iterator[Inside]:
    made = Inside(NamespaceThread(netns("sockets").path), [])
    yield made
    made.thread.close()
    for each in made.made:
        each.close()


def ends_of(server: socket.socket) -> Ends:
    """Of an accepted socket."""
    (_, port), (_, peer) = server.getsockname()[:2], server.getpeername()[:2]
    return Ends(HERE, port, HERE, peer)


def test_a_listener_is_seen_on_exactly_its_address_and_port(inside: Inside) -> None:
    assert not inside.listening(HERE, 8080)
    server = inside.server(8080)
    assert inside.listening(HERE, 8080)
    assert not inside.listening(HERE, 8081)
    assert not inside.listening(ELSEWHERE, 8080)
    server.close()
    assert not inside.listening(HERE, 8080)


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_a_listener_on_all_addresses_does_not_count(inside: Inside, address: str) -> None:
    inside.server(8080, address)
    assert not inside.listening(HERE, 8080)


def test_a_connection_does_not_count_as_a_listener(inside: Inside) -> None:
    server = inside.server(8080)
    inside.pair(server)
    server.close()
    assert not inside.listening(HERE, 8080)


def test_sockets_of_both_families_are_listed_by_their_ends(inside: Inside) -> None:
    plain, dual = inside.server(8080), inside.server(8081, "::")
    inside.pair(plain)
    inside.pair(dual)

    def listed(**restriction: object) -> list[tuple[int, int]]:
        found = inside.thread.call(lambda: sockdiag.tcp_sockets(**restriction))  # type: ignore[arg-type]
        assert all(each.state is SocketState.ESTABLISHED and each.local == each.remote == HERE for each in found)
        return sorted((each.family, each.local_port) for each in found if each.local_port in (8080, 8081))

    both = [(socket.AF_INET, 8080), (socket.AF_INET6, 8081)]
    assert listed() == listed(local=HERE) == listed(remote=HERE) == listed(local=HERE, remote=HERE) == both
    assert listed(remote=ELSEWHERE) == listed(local=ELSEWHERE) == []


@pytest.mark.parametrize("address", [str(HERE), "0.0.0.0", "::"])
def test_exactly_the_socket_that_was_asked_for_is_destroyed(inside: Inside, address: str) -> None:
    server = inside.server(8080, address)
    (client, accepted), (other, other_accepted) = inside.pair(server), inside.pair(server)
    ends = ends_of(accepted)
    (found,) = inside.thread.call(lambda: sockdiag.find([ends]))
    assert found
    assert (found.local, found.local_port, found.remote, found.remote_port) == (HERE, 8080, HERE, ends.remote_port)
    assert inside.thread.call(lambda: sockdiag.destroy([found])) == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionAbortedError):
        accepted.recv(1)
    other.send(b"!")
    assert other_accepted.recv(1) == b"!"
    assert inside.pair(server)


def test_where_the_connection_has_ended_neither_listener_nor_successor_is_taken_for_it(inside: Inside) -> None:
    server = inside.server(8080)
    client, accepted = inside.pair(server)
    ends = ends_of(accepted)
    (found,) = inside.thread.call(lambda: sockdiag.find([ends]))
    assert found
    assert inside.thread.call(lambda: sockdiag.destroy([found])) == 1
    assert inside.thread.call(lambda: sockdiag.find([ends])) == (None,)
    assert inside.thread.call(lambda: sockdiag.destroy([found])) == 0
    assert client
    again = inside.keep(inside.thread.call(
        lambda: socket.create_connection((str(HERE), 8080), source_address=(str(HERE), ends.remote_port))))  # fmt: skip
    successor = inside.keep(server.accept()[0])
    assert ends_of(successor) == ends
    assert inside.thread.call(lambda: sockdiag.destroy([found])) == 0
    again.send(b"!")
    assert successor.recv(1) == b"!"


def test_what_is_not_there_is_not_found_and_does_not_disturb_the_others(inside: Inside) -> None:
    server = inside.server(8080)
    _, accepted = inside.pair(server)
    there, not_there = ends_of(accepted), Ends(HERE, 8080, ELSEWHERE, 1)
    found = inside.thread.call(lambda: sockdiag.find([not_there, there, not_there], interface="no such interface"))
    assert [each is not None for each in found] == [False, True, False]
    assert inside.thread.call(lambda: sockdiag.find([])) == ()
