"""What is beyond a cell's uplink: a host with thousands of addresses, and what comes of calls to them."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address

from tests.testlib.node import Connected, Node, Outcome, Refused, connect_at_once

EVERY_ADDRESS = "198.18.0.0/15"
"""Of the host outside. It is reserved for trials, so that nothing else of a test has any of it."""
IP_PKTINFO = 8


@contextmanager
def served(outside: Node, *, tcp: Iterable[int] = (), udp: Iterable[int] = ()) -> Iterator[None]:
    """It answers at EVERY_ADDRESS: echoes, connections to these ports, and datagrams to those."""
    outside = Node(outside.pin, address=outside.address)  # with sockets of its own
    outside.run("ip", "route", "add", "local", EVERY_ADDRESS, "dev", "lo")
    with ExitStack() as stack:
        stack.callback(outside.run, "ip", "route", "del", "local", EVERY_ADDRESS, "dev", "lo")
        stack.enter_context(answering(outside, tcp=tcp, udp=udp))
        yield


@contextmanager
def answering(node: Node, *, tcp: Iterable[int] = (), udp: Iterable[int] = ()) -> Iterator[None]:
    """It takes connections to these ports, and gives back what is sent to those."""
    with ExitStack() as stack:
        for port in tcp:
            stack.callback(node.listen(port).close)
        for port in udp:
            stack.enter_context(_given_back(node, port))
        yield


@contextmanager
def _given_back(outside: Node, port: int) -> Iterator[None]:
    with outside.datagrams(port) as end:
        end.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        end.settimeout(None)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    data, dialled, _, caller = end.recvmsg(2048, 128)
                    end.sendmsg([data], dialled, 0, caller)  # from the address that it came to

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        with suppress(OSError):  # it has no other end, but is woken all the same
            end.shutdown(socket.SHUT_RDWR)
        thread.join()


def caller(outside: Node, address: str) -> Node:
    """The host outside, which calls from one of its many addresses."""
    return Node(outside.pin, address=IPv4Address(address), source=address)


def called(client: Node, address: str, protocol: str, port: int) -> Outcome:
    """What comes of a call."""
    if protocol == "icmp":
        return client.ping(address)
    return connect_at_once(client, address, port) if protocol == "tcp" else client.udp(address, port)


def passes(client: Node, address: str, protocol: str, port: int) -> bool:
    """Whether a call gets through; one that does not must be refused at once."""
    found = called(client, address, protocol, port)
    assert found in (Connected, Refused), f"{protocol}/{port} of {address}: {found}"
    return found is Connected
