"""Calls between the containers of a Host, all at once: what its rules let through at this moment, by real packets."""

import select
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address

from dataplane.state import HostState
from host.namespace import NamespaceThread
from tests.testlib.hosts import FIRST, Host
from tests.testlib.node import PATIENCE

PORTS = (8080, 9090)
SILENCE = 0.1  # seconds after which nothing is taken to come, where nothing need come


@dataclass(frozen=True, order=True)
class Call:
    """A TCP connection from one container to another."""

    source: IPv4Address
    target: IPv4Address
    port: int


def permitted(state: HostState) -> frozenset[Call]:
    """Those of all calls that a state allows."""
    return frozenset(
        Call(source.address, target.address, port)
        for source in state.workloads.values()
        for target in state.workloads.values()
        for port in PORTS
        for right in target.allows
        if source is not target and right.protocol == "tcp" and right.first <= port <= right.last
        if source.tag in state.tags_of(right)
    )


@dataclass(frozen=True)
class Callers:
    """A thread in each container, which calls all others; every container answers on all ports."""

    inside: dict[IPv4Address, NamespaceThread]
    listeners: list[socket.socket]

    def connected(self, *, up: Collection[IPv4Address], waiting_for: Collection[Call]) -> frozenset[Call]:
        """Which calls between containers that are `up` get through. Some must, so these have time; a silent one has not."""
        calls = [Call(one, other, port) for one in up for other in up for port in PORTS if one != other]
        with ExitStack() as stack:
            pending = {stack.enter_context(self._begun(each)): each for each in calls}
            found = frozenset(_answered(pending, waiting_for))
        for each in self.listeners:
            _drop_all(each)
        return found

    def _begun(self, call: Call) -> socket.socket:
        def begin() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # no port is kept
            made.connect_ex((str(call.target), call.port))
            return made

        return self.inside[call.source].call(begin)


def _answered(pending: dict[socket.socket, Call], waiting_for: Collection[Call]) -> Iterator[Call]:
    left, began = dict(pending), time.monotonic()
    while left:
        patience = PATIENCE if set(left.values()) & set(waiting_for) else SILENCE
        rest = began + patience - time.monotonic()
        _, ready, _ = select.select([], left, [], max(rest, 0.0))
        for each in ready:
            call = left.pop(each)
            if each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                yield call
        if not ready and rest <= 0:
            return


def _drop_all(listener: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()


@contextmanager
def callers(host: Host) -> Iterator[Callers]:
    """One in each of a host's containers."""
    with ExitStack() as stack:
        made = Callers({}, [])
        for number, container in enumerate(host.containers):
            thread = NamespaceThread(container.path)
            stack.callback(thread.close)
            made.inside[FIRST + number] = thread
            for port in PORTS:
                listener = thread.call(partial(socket.create_server, ("", port), backlog=100))
                listener.setblocking(False)
                made.listeners.append(stack.enter_context(listener))
        yield made
